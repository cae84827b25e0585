//! One suite of checks, run over SQLite in memory, SQLite in a file and PostgreSQL.
//!
//! PostgreSQL is the server at `LAMINAR_TEST_POSTGRES`; each check gets a database of its own there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a failed test panics

mod parts;

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;

use laminar_core::options::Secret;
use laminar_core::time::{ManualClock, SharedClock};
use laminar_core::{Code, Epoch, JobId, PipelineId};
use laminar_metastore::{
    CheckpointRow, DesiredState, JobChange, Metastore, NewJob, NewJobError, NewObject, NewPipeline, ObjectKind, Page,
    PipelineChange, new_id,
};
use serde_json::{Value, json};

use parts::{Place, clock};

type Check = fn(Arc<dyn Metastore>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

const CHECKS: &[(&str, Check)] = &[
    ("objects come back as they were stored", |m| Box::pin(objects_round_trip(m))),
    ("names are unique per namespace", |m| Box::pin(names_are_unique(m))),
    ("one of many concurrent creates wins", |m| Box::pin(concurrent_creates(m))),
    ("replacing keeps the identity", |m| Box::pin(replacing(m))),
    ("what is in use stays", |m| Box::pin(in_use(m))),
    ("unknown names have their code and a hint", |m| Box::pin(unknown_names(m))),
    ("unusable names are refused", |m| Box::pin(unusable_names(m))),
    ("secrets are given out only by name", |m| Box::pin(secrets(m))),
    ("lists are paged without gaps", |m| Box::pin(paging(m))),
    ("pipelines change field by field", |m| Box::pin(pipelines_change(m))),
    ("dropping a pipeline drops what belongs to it", |m| Box::pin(pipelines_drop(m))),
    ("job states change by compare-and-set", |m| Box::pin(jobs_compare_and_set(m))),
    ("runs are numbered without gaps", |m| Box::pin(runs_are_numbered(m))),
    ("errors are logged newest first", |m| Box::pin(job_errors(m))),
    ("checkpoints are one per epoch", |m| Box::pin(checkpoints(m))),
    ("any text and JSON survives", |m| Box::pin(odd_text(m))),
];

async fn check_all(place: &Place) {
    for (name, check) in CHECKS {
        println!("{name}");
        let (metastore, _kept) = place.open().await;
        check(metastore.clone()).await;
        metastore.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_in_memory() {
    check_all(&Place::Memory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_in_a_file() {
    check_all(&Place::File).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    check_all(&Place::Postgres).await;
}

fn object(kind: ObjectKind, name: &str) -> NewObject {
    let sql = format!("CREATE {kind} {name}");
    NewObject { kind, name: name.into(), definition: json!({"n": name}), sql, secret: None, uses: vec![] }
}

fn pipeline(name: &str) -> NewPipeline {
    NewPipeline {
        id: PipelineId::new(new_id(&clock())),
        name: name.into(),
        sql: format!("INSERT INTO out SELECT * FROM {name}"),
        options: json!({"delivery": "exactly_once"}),
        parallelism: 4,
        checkpoint_interval_micros: 10_000_000,
        desired: DesiredState::Running,
        uses: vec![],
    }
}

async fn objects_round_trip(m: Arc<dyn Metastore>) {
    for kind in [ObjectKind::Connection, ObjectKind::Table, ObjectKind::View] {
        let name = format!("a {kind} \"ünïcode\"");
        let created = m.create_object(object(kind, &name)).await.unwrap();
        assert_eq!(created.definition, json!({"n": name}));
        assert_eq!(created, m.object(kind, &name).await.unwrap());
        assert_eq!(created, m.drop_object(kind, &name).await.unwrap());
        assert_eq!(m.objects(None, &Page::all()).await.unwrap(), []);
    }
}

async fn names_are_unique(m: Arc<dyn Metastore>) {
    m.create_object(object(ObjectKind::Table, "orders")).await.unwrap();
    let same = m.create_object(object(ObjectKind::Table, "orders")).await.unwrap_err();
    assert_eq!((same.code(), same.message()), (Code::DuplicateName, "table orders already exists"));
    let view = m.create_object(object(ObjectKind::View, "orders")).await.unwrap_err();
    assert_eq!((view.code(), view.message()), (Code::DuplicateName, "table orders already exists"));
    let running = m.create_pipeline(pipeline("orders")).await.unwrap_err();
    assert_eq!((running.code(), running.message()), (Code::DuplicateName, "table orders already exists"));
    m.create_object(object(ObjectKind::Connection, "orders")).await.unwrap();
    m.create_object(object(ObjectKind::Secret, "orders")).await.unwrap();
    m.create_object(object(ObjectKind::Table, "Orders")).await.unwrap();

    m.create_pipeline(pipeline("totals")).await.unwrap();
    let table = m.create_object(object(ObjectKind::Table, "totals")).await.unwrap_err();
    assert_eq!((table.code(), table.message()), (Code::DuplicateName, "pipeline totals already exists"));
    assert_eq!(m.pipelines(&Page::all()).await.unwrap().len(), 1);
}

async fn concurrent_creates(m: Arc<dyn Metastore>) {
    let tasks: Vec<_> = (0..12)
        .map(|i| {
            let m = m.clone();
            tokio::spawn(async move {
                match i % 3 {
                    0 => m.create_object(object(ObjectKind::Table, "orders")).await.map(|_| ()),
                    1 => m.create_object(object(ObjectKind::View, "orders")).await.map(|_| ()),
                    _ => m.create_pipeline(pipeline("orders")).await.map(|_| ()),
                }
            })
        })
        .collect();
    let mut created = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(()) => created += 1,
            Err(error) => assert_eq!(error.code(), Code::DuplicateName, "{error:?}"),
        }
    }
    assert_eq!(created, 1);
}

async fn replacing(m: Arc<dyn Metastore>) {
    let first = m.replace_object(object(ObjectKind::View, "v")).await.unwrap();
    let mut new = object(ObjectKind::View, "v");
    new.definition = json!({"columns": [1, 2.5, null]});
    new.sql = "CREATE OR REPLACE VIEW v AS SELECT 2".into();
    let second = m.replace_object(new).await.unwrap();
    assert_eq!((&second.id, second.created_at), (&first.id, first.created_at));
    assert_eq!(second.definition, json!({"columns": [1, 2.5, null]}));
    assert_eq!(second, m.object(ObjectKind::View, "v").await.unwrap());
    let error = m.replace_object(object(ObjectKind::Table, "v")).await.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::DuplicateName, "view v already exists"));
}

async fn in_use(m: Arc<dyn Metastore>) {
    let connection = m.create_object(object(ObjectKind::Connection, "c")).await.unwrap();
    let mut table = object(ObjectKind::Table, "t");
    table.uses = vec![connection.id.clone(), connection.id.clone()];
    let table = m.create_object(table).await.unwrap();
    let mut running = pipeline("p");
    running.uses = vec![table.id.clone()];
    let running = m.create_pipeline(running).await.unwrap();

    let error = m.drop_object(ObjectKind::Connection, "c").await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (Code::InUse, "connection c is in use: by table t"));
    let error = m.drop_object(ObjectKind::Table, "t").await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (Code::InUse, "table t is in use: by pipeline p"));

    let change = PipelineChange { uses: Some(vec!["gone".into()]), ..Default::default() };
    let error = m.update_pipeline(&running.id, change).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    let mut orphan = object(ObjectKind::Table, "orphan");
    orphan.uses = vec!["gone".into()];
    assert_eq!(m.create_object(orphan).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(m.object(ObjectKind::Table, "orphan").await.unwrap_err().code(), Code::UnknownTable);

    m.drop_pipeline(&running.id).await.unwrap();
    m.drop_object(ObjectKind::Table, "t").await.unwrap();
    m.drop_object(ObjectKind::Connection, "c").await.unwrap();
}

async fn unknown_names(m: Arc<dyn Metastore>) {
    m.create_object(object(ObjectKind::Table, "orders")).await.unwrap();
    for (kind, code) in [
        (ObjectKind::Secret, Code::UnknownSecret),
        (ObjectKind::Connection, Code::UnknownConnection),
        (ObjectKind::Table, Code::UnknownTable),
        (ObjectKind::View, Code::UnknownTable),
    ] {
        assert_eq!(m.object(kind, "nope").await.unwrap_err().code(), code);
        assert_eq!(m.drop_object(kind, "nope").await.unwrap_err().code(), code);
    }
    let near = m.object(ObjectKind::Table, "order").await.unwrap_err();
    assert_eq!(near.hint(), Some("did you mean orders?"));
    let wrong = m.drop_object(ObjectKind::View, "orders").await.unwrap_err();
    assert_eq!((wrong.code(), wrong.message()), (Code::WrongObjectKind, "orders is a table, not a view"));
    assert_eq!(m.pipeline_named("orders").await.unwrap_err().code(), Code::WrongObjectKind);
    assert_eq!(m.pipeline_named("nope").await.unwrap_err().code(), Code::UnknownPipeline);
    let id = PipelineId::from("nope");
    assert_eq!(m.pipeline(&id).await.unwrap_err().code(), Code::UnknownPipeline);
    assert_eq!(m.drop_pipeline(&id).await.unwrap_err().code(), Code::UnknownPipeline);
    assert_eq!(m.update_pipeline(&id, PipelineChange::default()).await.unwrap_err().code(), Code::UnknownPipeline);
    let job = NewJob { id: "j".into(), pipeline_id: id.clone(), state: "created".into() };
    assert_eq!(m.create_job(job).await.unwrap_err().code(), Code::UnknownPipeline);
    assert_eq!(m.job(&"j".into()).await.unwrap_err().code(), Code::UnknownJob);
    assert_eq!(m.update_job(&"j".into(), "created", JobChange::default()).await.unwrap_err().code(), Code::UnknownJob);
    assert_eq!(m.add_job_error(job_error("j", "x")).await.unwrap_err().code(), Code::UnknownJob);
    assert_eq!(m.put_checkpoint(&checkpoint(&id, 1, "committed")).await.unwrap_err().code(), Code::UnknownPipeline);
}

async fn unusable_names(m: Arc<dyn Metastore>) {
    for name in ["", "a\0b", "line\nbreak", &"x".repeat(256)] {
        assert_eq!(m.create_object(object(ObjectKind::Table, name)).await.unwrap_err().code(), Code::InvalidName);
        assert_eq!(m.create_pipeline(pipeline(name)).await.unwrap_err().code(), Code::InvalidName);
    }
    m.create_object(object(ObjectKind::Table, &"ü".repeat(127))).await.unwrap();
}

async fn secrets(m: Arc<dyn Metastore>) {
    let mut new = object(ObjectKind::Secret, "kafka_password");
    new.definition = Value::Null;
    new.secret = Some(Secret::new("hunter2 \0 ü"));
    let created = m.create_object(new.clone()).await.unwrap();
    assert!(!format!("{created:?} {new:?} {m:?}").contains("hunter2"));
    assert_eq!(m.secret_value("kafka_password").await.unwrap().expose(), "hunter2 \0 ü");
    new.secret = Some(Secret::new("changed"));
    m.replace_object(new).await.unwrap();
    assert_eq!(m.secret_value("kafka_password").await.unwrap().expose(), "changed");
    assert_eq!(m.secret_value("kafka_pasword").await.unwrap_err().hint(), Some("did you mean kafka_password?"));
}

async fn paging(m: Arc<dyn Metastore>) {
    for i in 0..7 {
        m.create_object(object(ObjectKind::Table, &format!("t{i}"))).await.unwrap();
        m.create_object(object(ObjectKind::View, &format!("v{i}"))).await.unwrap();
        m.create_pipeline(pipeline(&format!("p{i}"))).await.unwrap();
    }
    assert_eq!(m.objects(None, &Page::all()).await.unwrap().len(), 14, "pipelines are a list of their own");
    let mut names = Vec::new();
    let mut page = Page::first(3);
    loop {
        let part = m.objects(Some(ObjectKind::Table), &page).await.unwrap();
        let Some(last) = part.last() else { break };
        page.starting_after = Some(last.id.clone());
        names.extend(part.into_iter().map(|o| o.name));
    }
    assert_eq!(names, ["t0", "t1", "t2", "t3", "t4", "t5", "t6"]);
    let first = m.pipelines(&Page::first(5)).await.unwrap();
    let page = Page { limit: 5, starting_after: Some(first[4].id.to_string()) };
    let rest: Vec<_> = m.pipelines(&page).await.unwrap().into_iter().map(|p| p.name).collect();
    assert_eq!(rest, ["p5", "p6"]);
}

async fn pipelines_change(m: Arc<dyn Metastore>) {
    let new = pipeline("p");
    let created = m.create_pipeline(new.clone()).await.unwrap();
    assert_eq!((&created.id, &created.sql, &created.options), (&new.id, &new.sql, &new.options));
    assert_eq!(created, m.pipeline(&new.id).await.unwrap());
    assert_eq!(created, m.pipeline_named("p").await.unwrap());

    let stop = PipelineChange { desired: Some(DesiredState::Stopped), ..Default::default() };
    let stopped = m.update_pipeline(&new.id, stop).await.unwrap();
    assert_eq!((stopped.desired, stopped.parallelism, &stopped.sql), (DesiredState::Stopped, 4, &new.sql));
    let change = PipelineChange {
        sql: Some("SELECT 1".into()),
        options: Some(json!({"retain_rows": 5})),
        parallelism: Some(2),
        checkpoint_interval_micros: Some(200_000),
        ..Default::default()
    };
    let changed = m.update_pipeline(&new.id, change).await.unwrap();
    assert_eq!((changed.sql.as_str(), changed.parallelism), ("SELECT 1", 2));
    assert_eq!((&changed.options, changed.checkpoint_interval_micros), (&json!({"retain_rows": 5}), 200_000));
    assert_eq!(changed.desired, DesiredState::Stopped);
}

async fn new_job(m: &Arc<dyn Metastore>, pipeline: &PipelineId) -> JobId {
    let id = JobId::new(new_id(&clock()));
    let new = NewJob { id: id.clone(), pipeline_id: pipeline.clone(), state: "created".into() };
    m.create_job(new).await.unwrap();
    id
}

fn job_error(job: &str, message: &str) -> NewJobError {
    let detail = json!({"code": "bad_data"});
    NewJobError { job_id: job.into(), level: "error".into(), operator: None, message: message.into(), detail }
}

fn checkpoint(pipeline: &PipelineId, epoch: u64, state: &str) -> CheckpointRow {
    CheckpointRow {
        pipeline_id: pipeline.clone(),
        job_id: "j".into(),
        epoch: Epoch(epoch),
        state: state.into(),
        started_at: 5,
        finished_at: (state == "committed").then_some(7),
        bytes: 1 << 40,
        detail: json!({"files": 2}),
    }
}

async fn pipelines_drop(m: Arc<dyn Metastore>) {
    let id = m.create_pipeline(pipeline("p")).await.unwrap().id;
    let job = new_job(&m, &id).await;
    m.add_job_error(job_error(job.as_str(), "x")).await.unwrap();
    m.put_checkpoint(&checkpoint(&id, 1, "committed")).await.unwrap();
    assert_eq!(m.drop_pipeline(&id).await.unwrap().name, "p");
    assert_eq!(m.job(&job).await.unwrap_err().code(), Code::UnknownJob);
    assert_eq!(m.job_errors(&job, &Page::all()).await.unwrap(), []);
    assert_eq!(m.checkpoints(&id, &Page::all()).await.unwrap(), []);
    m.create_object(object(ObjectKind::Table, "p")).await.unwrap();
}

async fn jobs_compare_and_set(m: Arc<dyn Metastore>) {
    let id = m.create_pipeline(pipeline("p")).await.unwrap().id;
    let job = new_job(&m, &id).await;
    let start = || JobChange { state: "running".into(), started_at: Some(10), ..Default::default() };
    let (one, two) = tokio::join!(m.update_job(&job, "created", start()), m.update_job(&job, "created", start()));
    let error = match (one, two) {
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => error,
        both => panic!("exactly one may win: {both:?}"),
    };
    assert_eq!(error.code(), Code::WrongState);
    assert_eq!(error.message(), format!("job {job} is running, no longer created"));

    let failure = json!({"code": "unreachable"});
    let fail = JobChange {
        state: "failed".into(),
        failure: Some(Some(failure.clone())),
        restarts: Some(3),
        finished_at: Some(Some(20)),
        ..Default::default()
    };
    let failed = m.update_job(&job, "running", fail).await.unwrap();
    assert_eq!((failed.started_at, failed.finished_at, failed.restarts), (Some(10), Some(20), 3));
    assert_eq!(failed.failure, Some(failure));
    let again =
        JobChange { state: "running".into(), failure: Some(None), finished_at: Some(None), ..Default::default() };
    let running = m.update_job(&job, "failed", again).await.unwrap();
    assert_eq!((&running.failure, running.finished_at, running.restarts), (&None, None, 3));
    assert_eq!(running, m.job(&job).await.unwrap());
}

async fn runs_are_numbered(m: Arc<dyn Metastore>) {
    let (p, q) =
        (m.create_pipeline(pipeline("p")).await.unwrap().id, m.create_pipeline(pipeline("q")).await.unwrap().id);
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let (m, p) = (m.clone(), p.clone());
            tokio::spawn(async move { new_job(&m, &p).await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let other = new_job(&m, &q).await;
    let runs: HashSet<u64> = m.jobs(Some(&p), &Page::all()).await.unwrap().iter().map(|j| j.run).collect();
    assert_eq!(runs, HashSet::from([1, 2, 3, 4]));
    assert_eq!(m.job(&other).await.unwrap().run, 1);
    let all = m.jobs(None, &Page::all()).await.unwrap();
    assert_eq!((all.len(), &all[0].id), (5, &other));
    let rest = m.jobs(None, &Page { limit: 10, starting_after: Some(all[1].id.to_string()) }).await.unwrap();
    assert_eq!(rest, all[2..]);
    let twice = NewJob { id: other, pipeline_id: q, state: "created".into() };
    assert_eq!(m.create_job(twice).await.unwrap_err().code(), Code::DuplicateName);
}

async fn job_errors(m: Arc<dyn Metastore>) {
    let id = m.create_pipeline(pipeline("p")).await.unwrap().id;
    let job = new_job(&m, &id).await;
    for i in 0..4 {
        m.add_job_error(job_error(job.as_str(), &format!("error {i}"))).await.unwrap();
    }
    let kept = m.add_job_error(job_error(job.as_str(), "a \0 byte")).await.unwrap();
    let newest = m.job_errors(&job, &Page::first(2)).await.unwrap();
    assert_eq!(newest[0], kept);
    let page = Page { limit: 9, starting_after: Some(newest[1].id.clone()) };
    let messages: Vec<_> = m.job_errors(&job, &page).await.unwrap().into_iter().map(|e| e.message).collect();
    assert_eq!(messages, ["error 2", "error 1", "error 0"]);
}

async fn checkpoints(m: Arc<dyn Metastore>) {
    let id = m.create_pipeline(pipeline("p")).await.unwrap().id;
    assert_eq!(m.latest_checkpoint(&id).await.unwrap(), None);
    for epoch in 1..=4 {
        m.put_checkpoint(&checkpoint(&id, epoch, "running")).await.unwrap();
    }
    m.put_checkpoint(&checkpoint(&id, 3, "committed")).await.unwrap();
    m.put_checkpoint(&checkpoint(&id, 2, "committed")).await.unwrap();
    assert_eq!(m.latest_checkpoint(&id).await.unwrap(), Some(checkpoint(&id, 3, "committed")));
    let epochs = |rows: Vec<CheckpointRow>| rows.into_iter().map(|r| r.epoch.0).collect::<Vec<_>>();
    let first = m.checkpoints(&id, &Page::first(2)).await.unwrap();
    assert_eq!(epochs(first), [4, 3]);
    let page = Page { limit: 9, starting_after: Some("3".into()) };
    assert_eq!(epochs(m.checkpoints(&id, &page).await.unwrap()), [2, 1]);
    let wrong = Page { limit: 9, starting_after: Some("x".into()) };
    assert_eq!(m.checkpoints(&id, &wrong).await.unwrap_err().code(), Code::InvalidRequest);
    assert_eq!(m.forget_checkpoints(&id, Epoch(3)).await.unwrap(), 2);
    assert_eq!(epochs(m.checkpoints(&id, &Page::all()).await.unwrap()), [4, 3]);
}

/// Stores random text and JSON in every column that takes some, and reads the same back.
async fn odd_text(m: Arc<dyn Metastore>) {
    use proptest::strategy::{Strategy, ValueTree};
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for i in 0..32 {
        let value = parts::any_json().new_tree(&mut runner).unwrap().current();
        let text = "(?s).{0,40}".new_tree(&mut runner).unwrap().current();
        let mut table = object(ObjectKind::Table, &format!("t{i}"));
        (table.definition, table.sql) = (value.clone(), text.clone());
        let created = m.create_object(table).await.unwrap();
        let read = m.object(ObjectKind::Table, &created.name).await.unwrap();
        assert_eq!((&read.definition, &read.sql), (&value, &text));

        let mut new = pipeline(&format!("p{i}"));
        (new.options, new.sql) = (value.clone(), text);
        let read = m.create_pipeline(new.clone()).await.unwrap();
        assert_eq!((&read.options, &read.sql), (&new.options, &new.sql));

        let job = new_job(&m, &new.id).await;
        let change = JobChange { state: "failed".into(), failure: Some(Some(value.clone())), ..Default::default() };
        assert_eq!(m.update_job(&job, "created", change).await.unwrap().failure, Some(value.clone()));
        let row = CheckpointRow { detail: value, ..checkpoint(&new.id, 1, "committed") };
        m.put_checkpoint(&row).await.unwrap();
        assert_eq!(m.latest_checkpoint(&new.id).await.unwrap(), Some(row));
    }
}

#[test]
fn ids_sort_by_creation() {
    let still: SharedClock = Arc::new(ManualClock::at_micros(1_700_000_000_000_000));
    let ids: Vec<String> = (0..100).map(|_| new_id(&still)).collect();
    assert!(ids.is_sorted());
}
