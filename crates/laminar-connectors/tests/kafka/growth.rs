//! Topics and partitions that appear, and topics that are not what they were.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use laminar_core::source::{Source, SourceReader, SplitStart, StartAt};
use laminar_core::{Code, Position, SplitId};
use rdkafka::admin::{AdminOptions, NewPartitions, NewTopic, TopicReplication};

use super::support::*;

async fn create(name: &str, partitions: i32) {
    let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(SOON));
    admin().create_topics(&[new], &options).await.unwrap().into_iter().for_each(|made| drop(made.unwrap()));
}

async fn delete(name: &str) {
    let options = AdminOptions::new().operation_timeout(Some(SOON));
    admin().delete_topics(&[name], &options).await.unwrap().into_iter().for_each(|gone| drop(gone.unwrap()));
}

/// Deletes the topic and makes another of the same name.
async fn replace(name: &str, partitions: i32) {
    delete(name).await;
    let deadline = Instant::now() + SOON;
    loop {
        let new = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(SOON));
        match admin().create_topics(&[new], &options).await.unwrap().pop().unwrap() {
            Ok(_) => return,
            Err((_, code)) => assert!(Instant::now() < deadline, "{code}"),
        }
    }
}

async fn grow(name: &str, partitions: usize) {
    let options = AdminOptions::new().operation_timeout(Some(SOON));
    let more = NewPartitions::new(name, partitions);
    admin().create_partitions(&[more], &options).await.unwrap().into_iter().for_each(|made| drop(made.unwrap()));
}

/// Waits until the source finds so many splits.
async fn found(source: &Arc<dyn Source>, count: usize) -> Vec<SplitId> {
    let deadline = Instant::now() + SOON;
    loop {
        let splits = source.discover().await.unwrap();
        if splits.len() == count {
            return splits;
        }
        assert!(Instant::now() < deadline, "{splits:?}");
    }
}

fn beginning(splits: &[SplitId]) -> Vec<SplitStart> {
    splits.iter().map(|split| SplitStart { split: split.clone(), at: StartAt::Beginning }).collect()
}

fn names(splits: &[SplitId]) -> Vec<&str> {
    splits.iter().map(SplitId::as_str).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_finds_the_topics_whose_whole_name_matches() {
    let prefix = unique("pattern");
    let source = open_source(&[("topic_pattern", &format!("{prefix}-[ab]"))], None);
    assert_eq!(source.discover().await.unwrap(), [], "none yet, and they may come");
    for name in ["b", "a", "c", "ab"] {
        create(&format!("{prefix}-{name}"), if name == "a" { 2 } else { 1 }).await;
    }
    let splits = found(&source, 3).await;
    assert_eq!(names(&splits), [format!("{prefix}-a/0"), format!("{prefix}-a/1"), format!("{prefix}-b/0")]);
    let other = SplitId::new(format!("{prefix}-c/0"));
    let error = source.open(beginning(&[other])).await.err().unwrap();
    assert_eq!(error.code(), Code::CheckpointMismatch, "{error:?}");
    assert!(error.detail().unwrap().contains("[ab]"), "{error:?}");
}

/// Records wait in the old partitions, and come in both while the new ones are added.
#[tokio::test(flavor = "multi_thread")]
async fn splits_that_are_added_are_read_from_their_beginning_beside_the_others() {
    let topic = topic("growing", 1).await;
    put(&topic, (0..2_000).map(|i| value(0, i.to_string())));
    let source = open_source(&[("topic", &topic), ("offset", "latest")], None);
    let old = SplitId::new(format!("{topic}/0"));
    let mut reader = reader_at(&source, &[(old, Position(0))]).await;
    let mut seen: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut add = |records: Vec<Seen>| records.into_iter().for_each(|s| seen.entry(s.0).or_default().push(s.1));
    grow(&topic, 3).await;
    let splits = found(&source, 3).await;
    put(&topic, (0..300).map(|i| value(i % 3, "x")));
    reader.add(beginning(splits.get(1..).unwrap())).await.unwrap();
    put(&topic, (0..300).map(|i| value(i % 3, "y")));
    add(take(&mut reader, 2_600).await);
    for (split, count) in splits.iter().zip([2_200, 200, 200]) {
        assert!(seen[split.as_str()].iter().copied().eq(0..count), "{split}");
    }
    assert_eq!(reader.positions().len(), 3);
    assert_eq!(reader.positions()[2], (splits[2].clone(), Position(200)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_added_leaves_the_reader_as_it_was() {
    let topic = topic("growing", 1).await;
    let source = open_source(&[("topic", &topic)], None);
    let mut reader = reader(&source).await;
    let error = reader.add(beginning(&[SplitId::new(format!("{topic}/7"))])).await.unwrap_err();
    assert_eq!(error.code(), Code::UnknownTopic, "{error:?}");
    assert_eq!(reader.positions().len(), 1);
    put(&topic, [value(0, "a")]);
    take(&mut reader, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_created_again_has_another_generation() {
    let (topic, other) = (topic("generation", 2).await, topic("generation", 1).await);
    let source = open_source(&[("topics", &format!("{topic},{other}"))], None);
    let splits = source.discover().await.unwrap();
    let before = source.generations(&splits).await.unwrap();
    assert_eq!(before.keys().collect::<Vec<_>>(), splits.iter().collect::<Vec<_>>());
    assert_eq!(source.generations(&splits).await.unwrap(), before);
    replace(&topic, 2).await;
    found(&source, 3).await;
    let after = source.generations(&splits).await.unwrap();
    for split in &splits {
        assert_eq!(before[split] == after[split], split.as_str().starts_with(&other), "{split}");
    }
}

/// What a job finds that was stopped meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_in_a_topic_that_was_replaced_is_an_error_or_a_new_beginning() {
    let topic = topic("replaced", 1).await;
    put(&topic, (0..50).map(|i| value(0, i.to_string())));
    let start = vec![SplitStart { split: SplitId::new(format!("{topic}/0")), at: StartAt::Replaced(Position(20)) }];
    let error = open_source(&[("topic", &topic)], None).open(start.clone()).await.err().unwrap();
    assert_eq!(error.code(), Code::DataLoss, "{error:?}");
    assert!(error.to_string().contains("deleted and created again"), "{error:?}");
    let source = open_source(&[("topic", &topic), ("on_data_loss", "skip")], None);
    let mut reader = source.open(start).await.unwrap();
    assert_eq!(take(&mut reader, 50).await[0].1, 0);
}

/// librdkafka says nothing of it: it asks for the topic again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_is_an_error_unless_it_may_be_missed() {
    let (topic, other) = (topic("deleted", 1).await, topic("kept", 1).await);
    let topics = format!("{topic},{other}");
    let strict = open_source(&[("topics", &topics)], None);
    let lenient = open_source(&[("topics", &topics), ("on_data_loss", "skip")], None);
    let splits = strict.discover().await.unwrap();
    delete(&topic).await;
    let deadline = Instant::now() + SOON;
    let error = loop {
        match strict.generations(&splits).await {
            Err(error) => break error,
            Ok(_) => assert!(Instant::now() < deadline, "the topic is still there"),
        }
    };
    assert_eq!(error.code(), Code::UnknownTopic, "{error:?}");
    assert!(error.to_string().contains(&topic) && error.hint().unwrap().contains("on_data_loss"), "{error:?}");
    let found = strict.discover().await.err().unwrap();
    assert_eq!(found.code(), Code::UnknownTopic, "{found:?}");
    assert_eq!(names(&lenient.discover().await.unwrap()), [format!("{other}/0")]);
    let left = lenient.generations(&splits).await.unwrap();
    assert_eq!(left.keys().map(SplitId::as_str).collect::<Vec<_>>(), [format!("{other}/0")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_may_miss_records_goes_on_in_the_topic_that_comes_after() {
    let (topic, other) = (topic("replaced", 1).await, topic("kept", 1).await);
    put(&topic, (0..10).map(|i| value(0, i.to_string())));
    let source = open_source(&[("topics", &format!("{topic},{other}")), ("on_data_loss", "skip")], None);
    let mut reader = reader(&source).await;
    take(&mut reader, 10).await;
    replace(&topic, 1).await;
    put(&topic, (0..3).map(|i| value(0, format!("new {i}"))));
    put(&other, [value(0, "goes on")]);
    let mut seen: Vec<_> = take(&mut reader, 4).await.into_iter().map(|s| s.3.unwrap()).collect();
    seen.sort();
    assert_eq!(seen, ["goes on", "new 0", "new 1", "new 2"]);
}

/// What waits for all splits to be read to their ends, as a window does, would else wait for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_before_it_was_read_is_not_waited_for() {
    let (topic, other) = (topic("deleted", 1).await, topic("kept", 1).await);
    put(&topic, (0..10).map(|i| value(0, i.to_string())));
    let source = open_source(&[("topics", &format!("{topic},{other}")), ("on_data_loss", "skip")], None);
    let gone = SplitId::new(format!("{topic}/0"));
    let mut reader = reader(&source).await;
    // Held back before anything is read of it.
    reader.pause(&[gone.clone()].into()).unwrap();
    put(&other, [value(0, "before")]);
    take(&mut reader, 1).await;
    delete(&topic).await;
    found(&source, 1).await;
    reader.pause(&[].into()).unwrap();
    not_waited_for(&mut reader, &gone, &other).await;

    // And one that is there no more when the job goes on.
    let start = |split: &SplitId| SplitStart { split: split.clone(), at: StartAt::At(Position(1)) };
    let mut reader = source.open(vec![start(&gone), start(&SplitId::new(format!("{other}/0")))]).await.unwrap();
    not_waited_for(&mut reader, &gone, &other).await;
}

/// Records of another topic come meanwhile.
async fn not_waited_for(reader: &mut Box<dyn SourceReader>, gone: &SplitId, other: &str) {
    let deadline = Instant::now() + SOON;
    while reader.behind().contains(gone) {
        assert!(Instant::now() < deadline, "{:?}", reader.behind());
        put(other, [value(0, "meanwhile")]);
        reader.next(LIMIT).await.unwrap();
    }
}
