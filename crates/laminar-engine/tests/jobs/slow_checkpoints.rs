//! Checkpoints that are too slow, or that the store does not take: the next one has all of it, and nothing is lost or twice.

use arrow::array::{ArrayRef, Int64Array};
use laminar_core::Epoch;
use laminar_engine::operator::{OperatorContext, Snapshot, StateFile};
use tokio::sync::watch;

use super::*;

/// Longer than any checkpoint takes that nothing holds up.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Replaces `v` by the number of the row, from 0: its state. The third barrier waits until the gate is open.
#[derive(Debug)]
struct NumberFactory {
    gate: watch::Receiver<bool>,
}

impl OperatorFactory for NumberFactory {
    fn create(&self, _: &TaskId) -> Result<Box<dyn Operator>> {
        Ok(Box::new(Number { gate: self.gate.clone(), barriers: 0, rows: 0, fresh: 0 }))
    }
    fn fingerprint(&self) -> String {
        "number".to_string()
    }
}

struct Number {
    gate: watch::Receiver<bool>,
    barriers: u32,
    rows: i64,
    /// Since the last snapshot.
    fresh: i64,
}

#[async_trait]
impl Operator for Number {
    async fn open(&mut self, ctx: &mut OperatorContext) -> Result<()> {
        let count = |file: &StateFile| file.rows[0].column(0).as_primitive::<Int64Type>().value(0);
        self.rows = ctx.restored.iter().map(count).sum();
        Ok(())
    }

    async fn on_changes(&mut self, _: usize, changes: Changes, out: &mut Output) -> Result<()> {
        let rows = changes.num_rows() as i64;
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(self.rows..self.rows + rows));
        let (schema, keys) = (changes.rows().schema(), Arc::clone(changes.rows().column(0)));
        self.rows += rows;
        self.fresh += rows;
        out.push(changes.with_rows(RecordBatch::try_new(schema, vec![keys, numbers])?)?);
        Ok(())
    }

    async fn on_barrier(&mut self, _: &mut Output) -> Result<()> {
        self.barriers += 1;
        if self.barriers == 3 {
            self.gate.wait_for(|open| *open).await.unwrap();
        }
        Ok(())
    }

    fn snapshot(&mut self, epoch: Epoch) -> Result<Snapshot> {
        if self.fresh == 0 {
            return Ok(Snapshot::default());
        }
        let fresh: ArrayRef = Arc::new(Int64Array::from(vec![std::mem::take(&mut self.fresh)]));
        let rows = vec![RecordBatch::try_from_iter([("rows", fresh)])?];
        Ok(Snapshot { add: vec![StateFile { name: format!("0-{epoch}"), rows }], remove: vec![] })
    }
}

/// `in` goes to `copy` as it is, and, numbered by another task, to `out`.
fn graph(world: &World, gate: &watch::Sender<bool>) -> Graph {
    let mut graph = Graph::default();
    let source = world.source(&mut graph, "in", 1, 16);
    world.sink(&mut graph, "copy", source, true);
    let schema = graph.nodes[source].schema.clone();
    let number = NodeKind::Operator(Arc::new(NumberFactory { gate: gate.subscribe() }));
    let number = add(&mut graph, "number", number, schema, &[(source, Exchange::Hash(vec![]))]);
    world.sink(&mut graph, "out", number, true);
    graph
}

fn append(world: &World, rows: std::ops::Range<u64>) {
    let lines: String = rows.map(|v| format!("{{\"k\":0,\"v\":{v}}}\n")).collect();
    world.logs.append_json("in", &lines).unwrap();
}

/// Runs a job to its end and calls `at` for each event. Returns the last.
async fn watch_job(graph: Graph, config: JobConfig, mut at: impl FnMut(&JobEvent)) -> JobEvent {
    let mut job = Job::start(graph, config).await.unwrap();
    let mut last = None;
    while let Some(event) = job.next_event().await {
        at(&event);
        last = Some(event);
    }
    last.unwrap()
}

fn check_rows(world: &World, rows: u64, at: &str) {
    let all: Vec<_> = (0..rows).collect();
    assert_eq!(world.values("copy", "v"), all, "{at}");
    assert_eq!(world.values("out", "v"), all, "{at}");
}

/// The third checkpoint is given up, and the job dies at the `nth` pass of `point`.
async fn give_up_and_crash(point: &str, nth: u32) {
    let world = World::new();
    append(&world, 0..300);
    let (gate, _keep) = watch::channel(false);
    let mut config = world.config(1, CrashPoints::fail_at(point, nth).unwrap());
    config.checkpoint_timeout = TIMEOUT;
    let mut failed = Vec::new();
    let last = watch_job(graph(&world, &gate), config, |event| {
        if let JobEvent::CheckpointFailed { epoch, error, .. } = event
            && error.code() == Code::Timeout
        {
            failed.push(epoch.0);
            append(&world, 300..600);
            gate.send_replace(true);
        }
    })
    .await;
    assert!(matches!(last, JobEvent::Failed(_)), "{point} {nth}: {last:?}");
    assert_eq!(failed, [3], "{point} {nth}");
    world.logs.close("in");
    check_finished(&run(graph(&world, &gate), world.config(1, CrashPoints::default())).await);
    check_rows(&world, 600, &format!("{point} {nth}"));
}

/// Epochs 1, 2 and 4 are written; each has two committers.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_checkpoint_becomes_part_of_the_next() {
    let points = [
        ("state-written", 3),
        ("manifest-written", 3),
        ("before-commit", 5),
        ("after-commit", 5),
        ("before-commit", 6),
        ("after-commit", 6),
        ("before-release", 3),
        ("before-cleanup", 3),
        ("before-cleanup", 5),
    ];
    futures::future::join_all(points.map(|(point, nth)| give_up_and_crash(point, nth))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_the_store_refuses_becomes_part_of_the_next() {
    let world = World::new();
    append(&world, 0..300);
    let (gate, _keep) = watch::channel(true);
    let manifests = world.folder.path().join("pipe_1/manifests");
    let aside = world.folder.path().join("aside");
    let (mut committed, mut failed) = (0, 0);
    let last = watch_job(graph(&world, &gate), world.config(1, CrashPoints::default()), |event| match event {
        JobEvent::CheckpointCommitted(_) => {
            committed += 1;
            if committed == 2 {
                // A file where the folder was.
                std::fs::rename(&manifests, &aside).unwrap();
                std::fs::write(&manifests, "").unwrap();
                append(&world, 300..600);
            }
        }
        JobEvent::CheckpointFailed { error, .. } => {
            assert_eq!(error.code(), Code::StoreUnavailable);
            failed += 1;
            if failed == 1 {
                std::fs::remove_file(&manifests).unwrap();
                std::fs::rename(&aside, &manifests).unwrap();
                world.logs.close("in");
            }
        }
        _ => {}
    })
    .await;
    check_finished(&last);
    assert!(failed >= 1);
    check_rows(&world, 600, "after the store came back");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failed_checkpoint_too_many_fails_the_job() {
    let world = World::new();
    append(&world, 0..10);
    let (gate, _keep) = watch::channel(false);
    let mut config = world.config(1, CrashPoints::default());
    (config.checkpoint_timeout, config.tolerable_failed_checkpoints) = (TIMEOUT, 1);
    let mut failed = 0;
    let last = watch_job(graph(&world, &gate), config, |event| {
        failed += u32::from(matches!(event, JobEvent::CheckpointFailed { .. }));
    })
    .await;
    let JobEvent::Failed(error) = last else { panic!("{last:?}") };
    assert_eq!((error.code(), failed), (Code::Timeout, 1));
    assert!(error.detail().unwrap().contains("in a row: 2"), "{error}");
    gate.send_replace(true);
    world.logs.close("in");
    check_finished(&run(graph(&world, &gate), world.config(1, CrashPoints::default())).await);
    check_rows(&world, 10, "after the restart");
}
