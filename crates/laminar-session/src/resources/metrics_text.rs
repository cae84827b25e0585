//! `GET /metrics`: the numbers of all jobs of this process in Prometheus' text format (version 0.0.4).
//!
//! Names end with their unit. Counters begin at zero with each launch of a job, as Prometheus expects of a restart.

use std::fmt::Write;

use laminar_controller::Phase;
use laminar_engine::metrics::{JobSnapshot, OperatorSnapshot};

use super::kind_text;
use crate::System;

/// One job's numbers.
struct JobRow {
    labels: String,
    phase: Phase,
    restarts: u64,
    snapshot: Option<JobSnapshot>,
}

impl System {
    /// Prometheus text exposition (version 0.0.4) of all jobs.
    pub fn metrics_text(&self) -> String {
        let catalog = self.catalog();
        let mut jobs = Vec::new();
        for handle in self.controller.latest_jobs() {
            let status = handle.status();
            let name = catalog.pipelines.values().find(|p| p.id == status.pipeline).map_or("", |p| p.name.as_str());
            jobs.push(JobRow {
                labels: format!("pipeline=\"{}\",job=\"{}\"", escaped(name), escaped(status.id.as_str())),
                phase: status.phase,
                restarts: status.restarts,
                snapshot: handle.metrics().map(|m| m.snapshot()),
            });
        }
        let mut text = String::new();
        head(&mut text, "laminar_build_info", "gauge", "version of this server; always 1");
        let _ = writeln!(text, "laminar_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
        head(&mut text, "laminar_pipelines", "gauge", "pipelines in the catalogue");
        let _ = writeln!(text, "laminar_pipelines {}", catalog.pipelines.len());
        per_job(&mut text, &jobs);
        per_operator(&mut text, &jobs, self.now_micros());
        text
    }
}

fn per_job(text: &mut String, jobs: &[JobRow]) {
    head(text, "laminar_job_state", "gauge", "1 for the state that the job is in, 0 for the others");
    for job in jobs {
        for phase in Phase::ALL {
            let (labels, state, is) = (&job.labels, phase.as_str(), u8::from(phase == job.phase));
            let _ = writeln!(text, "laminar_job_state{{{labels},state=\"{state}\"}} {is}");
        }
    }
    head(text, "laminar_job_restarts_total", "counter", "restarts of the job after failures");
    for job in jobs {
        let _ = writeln!(text, "laminar_job_restarts_total{{{}}} {}", job.labels, job.restarts);
    }
    type Number = fn(&JobSnapshot) -> f64;
    let families: [(&str, &str, &str, Number); 6] = [
        ("laminar_checkpoints_committed_total", "counter", "checkpoints that are done", |s| {
            s.checkpoints_committed as f64
        }),
        ("laminar_checkpoints_failed_total", "counter", "checkpoints that failed", |s| s.checkpoints_failed as f64),
        ("laminar_checkpoint_last_epoch", "gauge", "number of the last checkpoint", |s| s.last_epoch as f64),
        ("laminar_checkpoint_last_bytes", "gauge", "bytes written for the last checkpoint", |s| {
            s.last_checkpoint_bytes as f64
        }),
        (
            "laminar_checkpoint_last_duration_seconds",
            "gauge",
            "time from barrier to commit of the last checkpoint",
            |s| s.last_checkpoint_micros as f64 / 1e6,
        ),
        (
            "laminar_bad_records_total",
            "counter",
            "records that could not be decoded, and rows for which something could not be computed",
            |s| s.bad_records as f64,
        ),
    ];
    for (name, kind, help, number) in families {
        head(text, name, kind, help);
        for (job, snapshot) in jobs.iter().filter_map(|j| Some((j, j.snapshot.as_ref()?))) {
            let _ = writeln!(text, "{name}{{{}}} {}", job.labels, number(snapshot));
        }
    }
}

fn per_operator(text: &mut String, jobs: &[JobRow], now_micros: i64) {
    type Number = fn(&OperatorSnapshot, i64) -> Option<f64>;
    let families: [(&str, &str, &str, Number); 17] = [
        ("laminar_operator_rows_in_total", "counter", "rows that the operator took", |o, _| Some(o.rows_in as f64)),
        ("laminar_operator_rows_out_total", "counter", "rows that the operator emitted", |o, _| {
            Some(o.rows_out as f64)
        }),
        ("laminar_operator_bytes_in_total", "counter", "bytes that the operator took", |o, _| Some(o.bytes_in as f64)),
        ("laminar_operator_batches_in_total", "counter", "batches that the operator took", |o, _| {
            Some(o.batches_in as f64)
        }),
        (
            "laminar_operator_bad_records_total",
            "counter",
            "records that the source could not decode, or not compute with",
            |o, _| Some(o.bad_records as f64),
        ),
        (
            "laminar_operator_late_rows_total",
            "counter",
            "rows behind the watermark that the source left out",
            |o, _| Some(o.late_rows as f64),
        ),
        (
            "laminar_operator_dead_letters_total",
            "counter",
            "records that the source wrote to the dead letters",
            |o, _| Some(o.dead_letters as f64),
        ),
        (
            "laminar_operator_lost_records_total",
            "counter",
            "records that were gone before the source read them, and that on_data_loss allows to miss",
            |o, _| Some(o.lost_records as f64),
        ),
        ("laminar_operator_paused_splits", "gauge", "splits of the source that wait for slower ones", |o, _| {
            Some(o.paused_splits as f64)
        }),
        (
            "laminar_operator_watermark_seconds",
            "gauge",
            "event time up to which the input is complete, since 1970 UTC",
            |o, _| o.watermark_micros.map(|w| w as f64 / 1e6),
        ),
        ("laminar_operator_commit_wait_seconds_total", "counter", "time that rows waited for a commit", |o, _| {
            Some(o.commit_wait_micros as f64 / 1e6)
        }),
        (
            "laminar_operator_alignment_seconds_total",
            "counter",
            "time spent waiting for other inputs' barriers",
            |o, _| Some(o.alignment_micros as f64 / 1e6),
        ),
        (
            "laminar_operator_last_alignment_seconds",
            "gauge",
            "time that the slowest instance waited at the last barrier",
            |o, _| Some(o.last_alignment_micros as f64 / 1e6),
        ),
        (
            "laminar_operator_watermark_lag_seconds",
            "gauge",
            "how far the watermark is behind the server's time",
            |o, now| o.watermark_micros.map(|w| now.saturating_sub(w) as f64 / 1e6),
        ),
        ("laminar_operator_state_rows", "gauge", "rows in the files of the operator's state", |o, _| {
            o.state.map(|s| s.rows as f64)
        }),
        ("laminar_operator_state_bytes", "gauge", "bytes of the files of the operator's state", |o, _| {
            o.state.map(|s| s.bytes as f64)
        }),
        (
            "laminar_operator_checkpoint_bytes",
            "gauge",
            "bytes that the last checkpoint wrote of the operator",
            |o, _| o.state.map(|s| s.written as f64),
        ),
    ];
    for (name, kind, help, number) in families {
        head(text, name, kind, help);
        for job in jobs {
            for operator in job.snapshot.iter().flat_map(|s| &s.operators) {
                let Some(value) = number(operator, now_micros) else { continue };
                let (labels, id, kind) = (&job.labels, escaped(operator.operator.as_str()), kind_text(operator.kind));
                let _ = writeln!(text, "{name}{{{labels},operator=\"{id}\",kind=\"{kind}\"}} {value}");
            }
        }
    }
}

fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// A label's value as the format wants it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
