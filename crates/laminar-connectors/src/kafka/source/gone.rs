//! Topics that were deleted before all of their records were read, in a table that may miss some.
//!
//! librdkafka says nothing of them: it asks for such a topic again and again. Its splits would be behind for ever, and hold
//! back every window. So, while splits are behind and nothing comes of them, the brokers are asked whether their topics are there.
//!
//! ```text
//!  every 2 s: behind, and where it was 2 s ago? ─► is its topic there? ─► not, and not the next time either: gone
//! ```
//!
//! The rule that must stay true: one answer is not believed. Not every broker knows of a new topic at once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use laminar_core::Position;
use rdkafka::consumer::Consumer;
use tokio::task::JoinHandle;

use super::places::Standing;
use crate::kafka::native::{FetchQueue, TopicId, topic_ids};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// How long a broker is given to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// What is known of the topics whose splits are behind and silent.
pub(crate) struct GoneTopics {
    looked: Instant,
    /// Where the splits that were behind stood then, by their index.
    stood: HashMap<usize, Position>,
    /// Those of the topics asked for that are missing; `None`: no answer.
    question: Option<JoinHandle<Option<BTreeSet<Arc<str>>>>>,
    /// As the last answer had it.
    missing: BTreeSet<Arc<str>>,
}

impl GoneTopics {
    pub fn new() -> Self {
        Self { looked: Instant::now(), stood: HashMap::new(), question: None, missing: BTreeSet::new() }
    }

    /// Indices of the splits that are behind and whose topic is gone. Never waits; to be called again and again.
    pub fn look(&mut self, standings: &[Standing], queue: &Arc<FetchQueue>) -> Vec<usize> {
        let is_asking = self.question.as_ref().is_some_and(|question| !question.is_finished());
        if self.looked.elapsed() < EVERY || is_asking {
            return Vec::new();
        }
        let answer = self.question.take().and_then(|question| question.now_or_never()?.ok()?).unwrap_or_default();
        let behind = standings.iter().enumerate().filter(|(_, standing)| !standing.at_end);
        let silent: Vec<(usize, &Standing)> =
            behind.clone().filter(|(at, standing)| self.stood.get(at) == Some(&standing.next)).collect();
        let is_gone = |topic: &Arc<str>| answer.contains(topic) && self.missing.contains(topic);
        let gone: Vec<usize> = silent.iter().filter(|(_, s)| is_gone(&s.topic)).map(|(at, _)| *at).collect();

        let asked: BTreeSet<Arc<str>> =
            silent.iter().filter(|(_, s)| !is_gone(&s.topic)).map(|(_, s)| Arc::clone(&s.topic)).collect();
        self.stood = behind.map(|(at, standing)| (at, standing.next)).collect();
        (self.looked, self.missing) = (Instant::now(), answer);
        if !asked.is_empty() {
            let queue = Arc::clone(queue);
            self.question = Some(tokio::task::spawn_blocking(move || ask(&queue, &asked)));
        }
        gone
    }
}

/// Those of the topics that are missing; `None`: no answer. Blocks.
fn ask(queue: &FetchQueue, topics: &BTreeSet<Arc<str>>) -> Option<BTreeSet<Arc<str>>> {
    let names: Vec<String> = topics.iter().map(ToString::to_string).collect();
    // Asked for by name: a list of all topics leaves those out that we may not see, which are not gone.
    let ids = topic_ids(queue.consumer()?.client(), &names, ANSWER).ok()?;
    Some(topics.iter().filter(|topic| ids.get(topic.as_ref()) == Some(&TopicId::Missing)).cloned().collect())
}
