//! The life of pipelines through SQL: start, stop, restart, crash, resume, undo.

mod world;

use futures::StreamExt;
use laminar_core::{Code, Location};
use laminar_engine::crash::CrashPoints;
use laminar_metastore::{NewObject, ObjectKind};
use laminar_session::{Outcome, PipelinePatch, RestartFrom, StopKind};
use world::{World, notices};

const TABLES: &str = "CREATE TABLE numbers (n INT) WITH (connector = 'memory');
    CREATE TABLE copies (n INT) WITH (connector = 'memory');";
const COPY: &str = "CREATE PIPELINE copy AS INSERT INTO copies SELECT n FROM numbers;";

async fn copying() -> World {
    let mut world = World::new().await;
    world.run(TABLES).await;
    world.run("INSERT INTO numbers VALUES (1), (2)").await;
    world.run(COPY).await;
    assert_eq!(world.records("copies", 2).await, [r#"{"n":1}"#, r#"{"n":2}"#]);
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_goes_on_after_stop_and_start() {
    let mut world = copying().await;
    world.run("STOP PIPELINE copy").await;
    assert_eq!(world.state("copy").await, "stopped");
    world.run("INSERT INTO numbers VALUES (3)").await;
    assert_eq!(notices(&world.run("STOP PIPELINE copy").await[0]), ["not_running"]);
    world.run("START PIPELINE copy").await;
    assert_eq!(world.records("copies", 3).await.len(), 3);
    let jobs = world.system.jobs(Some("copy"), 10).await.unwrap();
    assert_eq!(jobs.iter().map(|j| (j.run_id, j.state.as_str())).collect::<Vec<_>>(), [(2, "Running"), (1, "Stopped")]);
    assert!(!world.system.job_checkpoints(&jobs[1].id, 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_resumes_what_should_run_and_only_that() {
    let mut world = copying().await;
    world.run("CREATE PIPELINE idle AS SELECT n FROM numbers; STOP PIPELINE idle").await;
    world.restart(CrashPoints::default()).await;
    world.until("copy", "running").await;
    assert_eq!(world.state("idle").await, "stopped");
    world.run("INSERT INTO numbers VALUES (3)").await;
    assert_eq!(world.records("copies", 3).await, [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn types_of_every_shape_are_read_again() {
    let mut world = World::new().await;
    world
        .run(
            "CREATE TABLE shapes (a MAP<TEXT, JSON>, b STRUCT<\"Big\" MAP<TEXT, INT[]>>, c DECIMAL(5, 2)[]) WITH (connector = 'memory');
             CREATE PIPELINE shaped AS SELECT a, b, c, map_entries(a) AS d, named_struct('X y', 1) AS e FROM shapes;",
        )
        .await;
    let described = world.rows("DESCRIBE shapes").await;
    world.restart(CrashPoints::default()).await;
    assert_eq!(world.rows("DESCRIBE shapes").await, described);
    world.until("shaped", "running").await;
    world.run("CREATE PIPELINE nothing AS SELECT NULL AS x, a FROM shapes").await;
    world.restart(CrashPoints::default()).await;
    world.until("nothing", "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_cannot_be_read_stands_in_nobodys_way() {
    let mut world = copying().await;
    let damaged = NewObject {
        kind: ObjectKind::Table,
        name: "of_another_version".into(),
        definition: serde_json::json!({"name": "of_another_version", "columns": 7}),
        sql: "CREATE TABLE of_another_version".into(),
        secret: None,
        uses: Vec::new(),
    };
    world.metastore().await.create_object(damaged).await.unwrap();
    world.restart(CrashPoints::default()).await;
    world.until("copy", "running").await;
    assert_eq!(world.fails("SELECT * FROM of_another_version").await.0, Code::UnknownTable);
    assert_eq!(
        world.fails("CREATE TABLE of_another_version (n INT) WITH (connector = 'memory')").await.0,
        Code::DuplicateName
    );
    world.run("DROP TABLE of_another_version").await;
    world.run("CREATE TABLE of_another_version (n INT) WITH (connector = 'memory')").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_a_server_that_was_killed_is_interrupted() {
    let mut world = copying().await;
    world.run("STOP PIPELINE copy").await;
    world.leave_running_job("copy").await;
    world.restart(CrashPoints::default()).await;
    let job = world.system.jobs(Some("copy"), 1).await.unwrap().remove(0);
    assert_eq!((job.id.as_str(), job.state.as_str()), ("left", "Failed"));
    assert_eq!(job.failure_code.as_deref(), Some("interrupted"));
    assert!(job.failure_hint.unwrap().contains("last checkpoint"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_publication_and_commit_repeats_and_loses_nothing() {
    let mut world = World::new().await;
    world.run(TABLES).await;
    world.restart(CrashPoints::fail_at("before-commit", 2).unwrap()).await;
    world.run("INSERT INTO numbers VALUES (1), (2)").await;
    world.run(COPY).await;
    world.logs.close("numbers");
    world.until("copy", "finished").await;
    assert_eq!(world.records("copies", 2).await, [r#"{"n":1}"#, r#"{"n":2}"#]);
    let job = world.system.jobs(Some("copy"), 1).await.unwrap().remove(0);
    assert_eq!(job.restarts, 1);
    let errors = world.system.job_errors(&job.id, 10).await.unwrap();
    assert!(errors.iter().any(|e| e.message.contains("before-commit")), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ignoring_state_reads_from_the_beginning() {
    let mut world = copying().await;
    world.run("RESTART PIPELINE copy").await;
    world.run("INSERT INTO numbers VALUES (3)").await;
    assert_eq!(world.records("copies", 3).await.len(), 3);
    world.run("RESTART PIPELINE copy IGNORING STATE").await;
    // A checkpoint of its own when the statement answers: a server that dies now goes on from there, not from the old state.
    let job = world.system.jobs(Some("copy"), 1).await.unwrap().remove(0);
    let checkpoints = world.system.job_checkpoints(&job.id, 10).await.unwrap();
    assert!(checkpoints.iter().any(|c| c.state == "completed"), "{checkpoints:?}");
    assert_eq!(world.records("copies", 6).await.len(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_outside_world_refuses_is_placed_at_its_option_or_else_at_the_name() {
    let mut world = World::new().await;
    world.run("CREATE CONNECTION gone TO single_file (path = '/no/such/file', type = 'source')").await;
    for (sql, line, column) in [
        (
            "CREATE TABLE t (line TEXT)\nWITH (connector = 'single_file', type = 'source', path = '/no/such/file')",
            2,
            51,
        ),
        ("CREATE TABLE t (line TEXT) WITH (connector = 'gone')", 1, 14),
    ] {
        let error = world.session.run_script(sql).await.unwrap_err();
        assert_eq!((error.code(), error.field()), (Code::FileError, Some("path")), "{error:?}");
        assert_eq!(error.location(), Some(Location { line, column }), "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_cannot_start_is_not_created() {
    let mut world = World::new().await;
    world.run("CREATE TABLE gone (line TEXT) WITH (connector = 'memory'); CREATE TABLE copies (line TEXT) WITH (connector = 'memory')").await;
    world.restart(CrashPoints::fail_at("recover-restored", 1).unwrap()).await;
    let (code, _) = world.fails("CREATE PIPELINE p AS INSERT INTO copies SELECT line FROM gone").await;
    assert_eq!(code, Code::Internal);
    assert!(world.system.pipelines().await.unwrap().is_empty());
    assert_eq!(world.rows("SELECT count(*) FROM system.jobs").await, ["0"]);
    // the same statement works once the cause is gone
    world.run("CREATE PIPELINE p AS INSERT INTO copies SELECT line FROM gone").await;
    assert_eq!(world.state("p").await, "running");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_cannot_start_leaves_the_old_pipeline_running() {
    let mut world = copying().await;
    world.restart(CrashPoints::fail_at("recover-restored", 2).unwrap()).await;
    world.until("copy", "running").await;
    let (code, _) =
        world.fails("CREATE OR REPLACE PIPELINE copy AS INSERT INTO copies SELECT n + 1 FROM numbers").await;
    assert_eq!(code, Code::Internal);
    world.until("copy", "running").await;
    let info = world.system.pipeline("copy").await.unwrap();
    assert!(info.query.contains("SELECT n FROM"), "{}", info.query);
    world.run("INSERT INTO numbers VALUES (3)").await;
    assert_eq!(world.records("copies", 3).await.last().unwrap(), r#"{"n":3}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_while_the_database_is_away_leaves_the_pipeline_running() {
    let mut world = copying().await;
    world.database.away();
    for change in [
        "RESTART PIPELINE copy",
        "RESTART PIPELINE copy IGNORING STATE",
        "CREATE OR REPLACE PIPELINE copy AS INSERT INTO copies SELECT n + 1 FROM numbers",
        "STOP PIPELINE copy",
        "DROP PIPELINE copy",
    ] {
        assert_eq!(world.fails(change).await.0, Code::MetadataUnavailable, "{change}");
        assert_eq!(world.state("copy").await, "running", "{change}");
    }
    let patch = PipelinePatch { parallelism: Some(2), ..PipelinePatch::default() };
    let error = world.system.patch_pipeline("copy", patch).await.unwrap_err();
    assert_eq!(error.code(), Code::MetadataUnavailable);
    world.logs.append_json("numbers", "{\"n\": 3}").unwrap();
    assert_eq!(world.records("copies", 3).await.last().unwrap(), r#"{"n":3}"#);
    world.database.works();
    assert_eq!(world.system.jobs(Some("copy"), 10).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_that_should_run_comes_back_with_the_database() {
    let mut world = copying().await;
    world.run("CREATE PIPELINE idle AS SELECT n FROM numbers; STOP PIPELINE idle").await;
    for change in
        ["RESTART PIPELINE copy", "CREATE OR REPLACE PIPELINE copy AS INSERT INTO copies SELECT n + 1 FROM numbers"]
    {
        world.database.takes_no_jobs();
        assert_eq!(world.fails(change).await.0, Code::MetadataUnavailable, "{change}");
        assert_eq!(world.state("copy").await, "stopped", "{change}");
        world.database.works();
        world.until("copy", "running").await;
    }
    world.database.takes_no_jobs();
    world.restart(CrashPoints::default()).await;
    assert_eq!(world.state("copy").await, "stopped");
    world.database.works();
    world.until("copy", "running").await;
    assert_eq!(world.state("idle").await, "stopped");
    world.run("INSERT INTO numbers VALUES (3)").await;
    assert_eq!(world.records("copies", 3).await, [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_cannot_begin_leaves_the_pipeline_running() {
    let mut world = copying().await;
    let (code, message) = world.fails("RESTART PIPELINE copy FROM CHECKPOINT 99").await;
    assert_eq!((code, message.as_str()), (Code::NotFound, "checkpoint 99 is not kept"));
    assert_eq!(world.system.jobs(Some("copy"), 10).await.unwrap().len(), 1);
    // the start that the statement asks for fails
    world.restart(CrashPoints::fail_at("recover-restored", 2).unwrap()).await;
    world.until("copy", "running").await;
    assert_eq!(world.fails("RESTART PIPELINE copy IGNORING STATE").await.0, Code::Internal);
    world.until("copy", "running").await;
    world.run("INSERT INTO numbers VALUES (3)").await;
    assert_eq!(world.records("copies", 3).await, [r#"{"n":1}"#, r#"{"n":2}"#, r#"{"n":3}"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_does_not_wait_for_a_statement_that_hangs() {
    let world = copying().await;
    world.database.hangs();
    let mut session = world.system.session();
    let hanging = tokio::spawn(async move { session.run_script("CREATE VIEW v AS SELECT n FROM numbers").await });
    world.database.has_hung().await;
    let down = tokio::time::timeout(std::time::Duration::from_secs(20), world.system.shutdown());
    down.await.expect("the shutdown should go on");
    assert_eq!(world.state("copy").await, "stopped");
    hanging.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn inserts_leave_one_note_however_many_there_are() {
    let mut world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let (out, file) = (folder.path().join("out"), folder.path().join("one.json"));
    world
        .run(&format!(
            "CREATE TABLE parts (n INT) WITH (connector = 'filesystem', path = '{}', type = 'sink');
             CREATE TABLE one (n INT) WITH (connector = 'single_file', path = '{}', type = 'sink')",
            out.display(),
            file.display()
        ))
        .await;
    let inserts = (0..20).map(|n| {
        let mut session = world.system.session();
        async move {
            session.run_script(&format!("INSERT INTO parts VALUES ({n}); INSERT INTO one VALUES ({n})")).await.unwrap()
        }
    });
    futures::future::join_all(inserts.map(tokio::spawn)).await.into_iter().for_each(|done| drop(done.unwrap()));
    world.run("INSERT INTO parts VALUES (20); INSERT INTO one VALUES (20)").await;

    let lines = |path: &std::path::Path| -> Vec<String> {
        std::fs::read_to_string(path).unwrap().lines().map(str::to_string).collect()
    };
    let files = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let mut parts: Vec<_> = files.flat_map(|path| lines(&path)).collect();
    let mut rows: Vec<_> = (0..21).map(|n| format!("{{\"n\":{n}}}")).collect();
    let mut of_one = lines(&file);
    for list in [&mut parts, &mut rows, &mut of_one] {
        list.sort();
    }
    assert_eq!((&parts, &of_one), (&rows, &rows));
    assert_eq!(std::fs::read_dir(out.join("_laminar")).unwrap().count(), 1);
    let note = std::fs::read_to_string(folder.path().join("one.json.laminar")).unwrap();
    assert_eq!(note.matches("insert-").count(), 1, "{note}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_data_fails_the_pipeline_for_good_and_says_where() {
    let mut world = World::new().await;
    world.run(TABLES).await;
    world.run(COPY).await;
    world.logs.append_json("numbers", "{\"n\": 1}\n{\"n\": \"one\"}").unwrap();
    world.until("copy", "failed").await;
    let job = world.system.jobs(Some("copy"), 1).await.unwrap().remove(0);
    assert_eq!((job.failure_code.as_deref(), job.restarts), (Some("bad_data"), 0));
    let told = job.failure_message.unwrap();
    assert!(told.contains("cannot be decoded: "), "{told}");
    assert!(job.failure_hint.unwrap().starts_with("bad_data = 'skip' leaves such records out"));
    assert_eq!(world.rows("SELECT state FROM system.jobs").await, ["Failed"]);
    // a preview goes on, and says why too
    let outcome = world.run("SELECT n FROM numbers").await.remove(0);
    let Outcome::Rows { late, .. } = &outcome else { panic!("no rows") };
    let late = late.clone();
    assert_eq!(world::text(&outcome.collect().await.unwrap()), ["1"]);
    let notice = late.take().remove(0).message;
    assert!(
        notice.starts_with("1 record of numbers could not be decoded and is left out, at numbers/0 offset 1: "),
        "{notice}"
    );
    // as whole when another run has taken its place
    world.run("START PIPELINE copy").await;
    let earlier = world.system.jobs(Some("copy"), 2).await.unwrap().remove(1);
    assert_eq!((earlier.id, earlier.failure_message), (job.id, Some(told)));
}

#[tokio::test(flavor = "multi_thread")]
async fn parallelism_changes_with_a_checkpoint_between() {
    let mut world = copying().await;
    let patch = laminar_session::PipelinePatch { parallelism: Some(3), ..Default::default() };
    let info = world.system.patch_pipeline("copy", patch).await.unwrap();
    assert_eq!((info.parallelism, info.state.as_str()), (3, "running"));
    world.run("INSERT INTO numbers VALUES (3)").await;
    assert_eq!(world.records("copies", 3).await.len(), 3);
    let info = world.system.stop_pipeline("copy", StopKind::Immediate).await.unwrap();
    assert_eq!((info.state.as_str(), info.action.as_deref()), ("stopped", Some("start")));
    let job = world.system.restart_pipeline(&info.id, RestartFrom::Latest).await.unwrap();
    assert_eq!(job.state, "Running");
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_see_rows_as_they_come() {
    let mut world = World::new().await;
    world.run(TABLES).await;
    world.run("CREATE PIPELINE even AS SELECT n FROM numbers WHERE n % 2 = 0").await;
    let Outcome::Rows { mut rows, .. } = world.run("SUBSCRIBE TO even").await.remove(0) else { panic!("no rows") };
    world.run("INSERT INTO numbers VALUES (1), (2), (3), (4)").await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let batch =
            tokio::time::timeout(std::time::Duration::from_secs(20), rows.next()).await.unwrap().unwrap().unwrap();
        seen.extend(world::text(&[batch]));
    }
    assert_eq!(seen, ["2", "4"]);
    world.run(COPY).await;
    assert_eq!(world.fails("SUBSCRIBE TO copy").await.0, Code::WrongObjectKind);
    world.run("DROP PIPELINE even").await;
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), rows.next()).await.unwrap();
    assert!(ended.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_see_what_becomes_of_rows_that_change() {
    let mut world = World::new().await;
    world.run(TABLES).await;
    world.run("CREATE PIPELINE parity AS SELECT n % 2 AS odd, count(*) AS times FROM numbers GROUP BY 1").await;
    let Outcome::Rows { mut rows, .. } = world.run("SUBSCRIBE TO parity").await.remove(0) else { panic!("no rows") };
    let mut seen = Vec::new();
    for (number, expected) in [(1, 1), (3, 3)] {
        world.run(&format!("INSERT INTO numbers VALUES ({number})")).await;
        while seen.len() < expected {
            let batch =
                tokio::time::timeout(std::time::Duration::from_secs(20), rows.next()).await.unwrap().unwrap().unwrap();
            seen.extend(world::text(&[batch]));
        }
    }
    assert_eq!(seen, ["insert 1 1", "update_before 1 1", "update_after 1 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_a_pipeline_leaves_nothing() {
    let mut world = copying().await;
    assert_eq!(
        world.fails("DROP TABLE numbers").await,
        (Code::InUse, "table numbers is used by pipeline copy".to_string())
    );
    let wider = "CREATE OR REPLACE TABLE numbers (n INT, m INT) WITH (connector = 'memory')";
    let error = world.session.run_script(wider).await.unwrap_err();
    assert_eq!((error.code(), error.detail()), (Code::InUse, Some("its columns or type would change")));
    assert!(error.hint().unwrap().contains("create a table of another name"), "{error:?}");
    world.run("DROP PIPELINE copy; DROP TABLE numbers; DROP TABLE copies").await;
    assert_eq!(world.rows("SELECT count(*) FROM system.jobs").await, ["0"]);
    assert_eq!(world.rows("SELECT count(*) FROM system.checkpoints").await, ["0"]);
    assert_eq!(world.fails("START PIPELINE copy").await.0, Code::UnknownPipeline);
}
