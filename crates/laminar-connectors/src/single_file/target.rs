//! The file that is written, shared by all sink tasks of a pipeline; exactly-once is decided here.
//!
//! ```text
//!  out.json                      only committed rows, and while a commit runs the rows of that commit behind them
//!  out.json.laminar              { length: committed bytes, pipelines: { p: { generation, marker } } }: the truth
//!  out.json.laminar.p.3.pending  rows of the open epoch of pipeline p, generation 3
//!  out.json.laminar.lock         held while a commit or a recovery runs
//! ```
//!
//! Commit: append the pending rows, fsync, replace the `.laminar` file. Dying before the last step leaves rows behind
//! `length`, which whoever comes next cuts off; so nobody else may write to the file. Every recovery starts a new
//! generation: what still belongs to an older one is fenced, since it finds another number in the `.laminar` file.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use laminar_core::sink::Marker;
use laminar_core::{Code, Error, PipelineId, Result};
use serde::{Deserialize, Serialize};

use crate::files::durable::{Lock, beside, read_json, sync_folder, write_json};
use crate::files::file_error;

/// The targets in use: sinks of one pipeline into one file share one.
#[derive(Debug, Default)]
pub struct Targets(Mutex<HashMap<(PathBuf, PipelineId), Weak<Target>>>);

impl Targets {
    pub fn of(&self, path: &Path, pipeline: &PipelineId) -> Arc<Target> {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        targets.retain(|_, target| target.strong_count() > 0);
        let entry = targets.entry((path.to_path_buf(), pipeline.clone())).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let target =
                Arc::new(Target { path: path.to_path_buf(), pipeline: pipeline.clone(), open: Mutex::new(None) });
            *entry = Arc::downgrade(&target);
            target
        })
    }
}

/// Its methods wait for files: call them off the threads that run tasks.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    pipeline: PipelineId,
    open: Mutex<Option<Pending>>,
}

#[derive(Debug)]
struct Pending {
    generation: u64,
    file: File,
    bytes: u64,
}

/// Content of the `.laminar` file. Stored on disk, do not rename.
#[derive(Debug, Serialize, Deserialize)]
struct Progress {
    version: u32,
    length: u64,
    pipelines: BTreeMap<PipelineId, PipelineProgress>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct PipelineProgress {
    generation: u64,
    marker: Option<Marker>,
}

const PROGRESS_VERSION: u32 = 1;

impl Target {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The generation that is open. The first writer of a pipeline without a committer opens one.
    pub fn current(&self) -> Result<u64> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match &*open {
            Some(pending) => Ok(pending.generation),
            None => Ok(self.begin_in(&mut open)?.0),
        }
    }

    /// Fences whoever wrote for this pipeline before, removes what was not committed, and opens the next generation.
    pub fn begin(&self) -> Result<(u64, Option<Marker>)> {
        self.begin_in(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin_in(&self, open: &mut Option<Pending>) -> Result<(u64, Option<Marker>)> {
        *open = None;
        let failed = |e| file_error(&self.path, "write", e);
        let _lock = self.lock()?;
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&self.path).map_err(failed)?;
        let mut progress = match self.progress()? {
            Some(progress) => progress,
            None => {
                let length = end_last_line(&mut file).map_err(failed)?;
                Progress { version: PROGRESS_VERSION, length, pipelines: BTreeMap::new() }
            }
        };
        self.cut(&file, progress.length)?;
        let ours = progress.pipelines.entry(self.pipeline.clone()).or_default();
        ours.generation += 1;
        let (generation, marker) = (ours.generation, ours.marker.clone());
        write_json(&self.progress_path(), &progress)?;
        self.remove_pending(generation).map_err(failed)?;
        let pending_path = self.pending_path(generation);
        let pending = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&pending_path);
        let file = pending.map_err(|e| file_error(&pending_path, "write", e))?;
        *open = Some(Pending { generation, file, bytes: 0 });
        Ok((generation, marker))
    }

    /// Adds lines to the open epoch. Errors: `fenced` if `generation` is no longer the one that is open.
    pub fn append(&self, generation: u64, lines: &[u8]) -> Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = self.mine(&mut open, generation)?;
        pending.file.write_all(lines).map_err(|e| file_error(&self.pending_path(generation), "write", e))?;
        pending.bytes += lines.len() as u64;
        Ok(())
    }

    /// Makes the open epoch's lines part of the file, together with the marker; without one, the marker stays what it was.
    pub fn publish(&self, generation: u64, marker: Option<&Marker>) -> Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = self.mine(&mut open, generation)?;
        let _lock = self.lock()?;
        let mut progress = self.progress()?.ok_or_else(|| self.fenced())?;
        let ours = progress.pipelines.get_mut(&self.pipeline).filter(|p| p.generation == generation);
        let ours = ours.ok_or_else(|| self.fenced())?;
        if let Some(marker) = marker {
            ours.marker = Some(marker.clone());
        }
        if pending.bytes == 0 && marker.is_none() {
            return Ok(());
        }
        progress.length = self.append_pending(pending, progress.length)?;
        write_json(&self.progress_path(), &progress)
    }

    /// Copies the pending lines behind the committed ones; returns the new length.
    fn append_pending(&self, pending: &mut Pending, committed: u64) -> Result<u64> {
        let failed = |e| file_error(&self.path, "write", e);
        let mut file = OpenOptions::new().write(true).open(&self.path).map_err(failed)?;
        self.cut(&file, committed)?;
        let mut copy = || -> io::Result<()> {
            file.seek(SeekFrom::Start(committed))?;
            pending.file.seek(SeekFrom::Start(0))?;
            let copied = io::copy(&mut pending.file, &mut file)?;
            if copied != pending.bytes {
                return Err(io::Error::other(format!("{copied} of {} pending bytes are there", pending.bytes)));
            }
            file.sync_all()?;
            pending.file.set_len(0)?;
            pending.file.seek(SeekFrom::Start(0)).map(|_| ())
        };
        copy().map_err(failed)?;
        let length = committed + pending.bytes;
        pending.bytes = 0;
        Ok(length)
    }

    /// Cuts off what lies behind the committed bytes. Errors: `data_loss` if some of those are gone.
    fn cut(&self, file: &File, committed: u64) -> Result<()> {
        let failed = |e| file_error(&self.path, "write", e);
        let length = file.metadata().map_err(failed)?.len();
        if length < committed {
            let message = format!("{} lost rows: {committed} bytes were committed", self.path.display());
            return Err(Error::new(Code::DataLoss, message)
                .with_detail(format!("it has {length}"))
                .with_hint(format!("to start anew, remove {}", self.progress_path().display())));
        }
        if length > committed {
            file.set_len(committed).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        Ok(())
    }

    fn mine<'a>(&self, open: &'a mut Option<Pending>, generation: u64) -> Result<&'a mut Pending> {
        open.as_mut().filter(|p| p.generation == generation).ok_or_else(|| self.fenced())
    }

    fn fenced(&self) -> Error {
        let message = format!("a newer job of pipeline {} writes to {}", self.pipeline, self.path.display());
        Error::new(Code::Fenced, message)
    }

    fn progress(&self) -> Result<Option<Progress>> {
        let progress: Option<Progress> = read_json(&self.progress_path())?;
        match &progress {
            Some(p) if p.version != PROGRESS_VERSION => {
                Err(file_error(&self.progress_path(), "understand", format!("its version is {}", p.version)))
            }
            _ => Ok(progress),
        }
    }

    /// Removes pending rows of this pipeline's other generations.
    fn remove_pending(&self, keep: u64) -> io::Result<()> {
        let (first, kept) = (self.pending_prefix(), self.pending_path(keep));
        let folder = self.path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
        for entry in fs::read_dir(folder)? {
            let path = self.path.with_file_name(entry?.file_name());
            let name = path.as_os_str().as_encoded_bytes();
            if name.starts_with(first.as_os_str().as_encoded_bytes()) && name.ends_with(b".pending") && path != kept {
                fs::remove_file(path)?;
            }
        }
        sync_folder(folder)
    }

    fn lock(&self) -> Result<Lock> {
        Lock::acquire(&beside(&self.path, ".laminar.lock"))
    }
    fn progress_path(&self) -> PathBuf {
        beside(&self.path, ".laminar")
    }
    fn pending_prefix(&self) -> PathBuf {
        beside(&self.path, &format!(".laminar.{}.", self.pipeline))
    }
    fn pending_path(&self, generation: u64) -> PathBuf {
        beside(&self.pending_prefix(), &format!("{generation}.pending"))
    }
}

/// Makes the file end with a line break, so that our first line is a line; returns its length.
fn end_last_line(file: &mut File) -> io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    if length == 0 {
        return Ok(0);
    }
    let mut last = [0];
    file.seek(SeekFrom::Start(length - 1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(length);
    }
    file.write_all(b"\n")?;
    file.sync_all()?;
    Ok(length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::marker;

    struct Crashed {
        folder: tempfile::TempDir,
    }

    impl Crashed {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }
        fn path(&self) -> PathBuf {
            self.folder.path().join("out.json")
        }
        /// A new process: nothing in memory is left.
        fn target(&self, pipeline: &str) -> Arc<Target> {
            Targets::default().of(&self.path(), &pipeline.into())
        }
        fn text(&self) -> String {
            fs::read_to_string(self.path()).unwrap()
        }
        fn recovered(&self) -> Option<u64> {
            let (generation, marker) = self.target("p").begin().unwrap();
            let pending =
                fs::read_dir(self.folder.path()).unwrap().filter_map(|e| e.unwrap().file_name().into_string().ok());
            let pending: Vec<_> = pending.filter(|name| name.ends_with(".pending")).collect();
            assert_eq!(pending, [format!("out.json.laminar.p.{generation}.pending")]);
            marker.map(|m| m.epoch.0)
        }
    }

    #[test]
    fn only_the_marker_decides() {
        let crashed = Crashed::new();
        fs::write(crashed.path(), "theirs").unwrap();
        let target = crashed.target("p");
        let (generation, none) = target.begin().unwrap();
        assert_eq!(none, None);
        target.append(generation, b"a\n").unwrap();
        assert_eq!(crashed.text(), "theirs\n");
        assert_eq!(crashed.recovered(), None, "dies before the commit");
        assert_eq!(crashed.text(), "theirs\n");

        let (generation, _) = target.begin().unwrap();
        target.append(generation, b"a\n").unwrap();
        target.publish(generation, Some(&marker(1))).unwrap();
        assert_eq!(crashed.text(), "theirs\na\n");
        target.append(generation, b"b\n").unwrap();
        let committed = crashed.text().len() as u64;
        target.append_pending(target.open.lock().unwrap().as_mut().unwrap(), committed).unwrap();
        assert_eq!(crashed.text(), "theirs\na\nb\n", "dies after appending, before the marker");
        assert_eq!(crashed.recovered(), Some(1));
        assert_eq!(crashed.text(), "theirs\na\n");

        let (generation, _) = target.begin().unwrap();
        target.append(generation, b"b\n").unwrap();
        target.publish(generation, Some(&marker(2))).unwrap();
        assert_eq!(crashed.recovered(), Some(2), "dies after the marker");
        assert_eq!(crashed.text(), "theirs\na\nb\n");
    }

    #[test]
    fn an_older_process_is_fenced() {
        let crashed = Crashed::new();
        let zombie = crashed.target("p");
        let (old, _) = zombie.begin().unwrap();
        zombie.append(old, b"old\n").unwrap();
        let newer = crashed.target("p");
        let (new, _) = newer.begin().unwrap();
        newer.append(new, b"new\n").unwrap();
        assert_eq!(zombie.publish(old, Some(&marker(1))).unwrap_err().code(), Code::Fenced);
        newer.publish(new, Some(&marker(1))).unwrap();
        assert_eq!(crashed.text(), "new\n");
        newer.begin().unwrap();
        assert_eq!(newer.append(new, b"x").unwrap_err().code(), Code::Fenced, "also in the same process");
    }

    #[test]
    fn pipelines_share_a_file() {
        let crashed = Crashed::new();
        let (p, q) = (crashed.target("p"), crashed.target("q"));
        let (of_p, of_q) = (p.begin().unwrap().0, q.begin().unwrap().0);
        p.append(of_p, b"p1\n").unwrap();
        q.append(of_q, b"q1\n").unwrap();
        q.publish(of_q, Some(&marker(1))).unwrap();
        p.publish(of_p, Some(&marker(7))).unwrap();
        q.append(of_q, b"q2\n").unwrap();
        q.publish(of_q, Some(&marker(2))).unwrap();
        assert_eq!(crashed.text(), "q1\np1\nq2\n");
        assert_eq!(p.begin().unwrap().1.map(|m| m.epoch.0), Some(7));
        assert_eq!(q.begin().unwrap().1.map(|m| m.epoch.0), Some(2));
    }

    #[test]
    fn rows_that_were_committed_and_are_gone_are_reported() {
        let crashed = Crashed::new();
        let target = crashed.target("p");
        let (generation, _) = target.begin().unwrap();
        target.append(generation, b"abc\n").unwrap();
        target.publish(generation, Some(&marker(1))).unwrap();
        fs::write(crashed.path(), "").unwrap();
        assert_eq!(target.begin().unwrap_err().code(), Code::DataLoss);
    }
}
