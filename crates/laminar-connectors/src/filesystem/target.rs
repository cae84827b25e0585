//! The folder that is written, shared by all sink tasks of a pipeline; exactly-once is decided here.
//!
//! ```text
//!  out/part-p-3-000001.json            published: complete, never touched again
//!  out/_laminar/p/manifest.json        { generation, marker, files of the marker's epoch }: the truth
//!  out/_laminar/p/3/part-p-3-000002.json   generation 3, not published yet
//!  out/_laminar/p/lock                 held while a commit or a recovery runs
//! ```
//!
//! Commit: the epoch's files are complete and synced; replace the manifest by one that names the marker and these files
//! (from here on the epoch is visible by right), then rename each into the folder. Whoever dies in between leaves renames
//! that the next recovery finishes; files that no manifest names are removed by it. Every recovery starts a new
//! generation: what belongs to an older one finds another number in the manifest and is fenced.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use laminar_core::sink::Marker;
use laminar_core::{Code, Error, PipelineId, Result};
use laminar_formats::FormatOptions;
use serde::{Deserialize, Serialize};

use crate::files::durable::{Lock, read_json, sync_folder, write_json};
use crate::files::file_error;

/// The targets in use: sinks of one pipeline into one folder share one.
#[derive(Debug, Default)]
pub struct Targets(Mutex<HashMap<(PathBuf, PipelineId), Weak<Target>>>);

impl Targets {
    pub fn of(&self, folder: &Path, pipeline: &PipelineId, format: &FormatOptions) -> Arc<Target> {
        let mut targets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        targets.retain(|_, target| target.strong_count() > 0);
        let entry = targets.entry((folder.to_path_buf(), pipeline.clone())).or_default();
        entry.upgrade().unwrap_or_else(|| {
            let json = format.format.as_str().eq_ignore_ascii_case("json");
            let target = Arc::new(Target {
                folder: folder.to_path_buf(),
                control: folder.join("_laminar").join(pipeline.as_str()),
                pipeline: pipeline.clone(),
                extension: if json { "json" } else { "txt" },
                open: Mutex::new(None),
            });
            *entry = Arc::downgrade(&target);
            target
        })
    }
}

/// Its methods wait for files: call them off the threads that run tasks.
#[derive(Debug)]
pub struct Target {
    folder: PathBuf,
    control: PathBuf,
    pipeline: PipelineId,
    extension: &'static str,
    open: Mutex<Option<Open>>,
}

#[derive(Debug)]
struct Open {
    generation: u64,
    /// Files begun in this generation.
    begun: u64,
    /// Names of complete files of the open epoch.
    complete: Vec<String>,
}

/// Content of `manifest.json`. Stored on disk, do not rename.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Manifest {
    version: u32,
    generation: u64,
    marker: Option<Marker>,
    /// Generation whose folder `files` are to be moved from.
    source: u64,
    files: Vec<String>,
}

const MANIFEST_VERSION: u32 = 1;

/// A file that a writer fills; given back to [`Target::complete`].
#[derive(Debug)]
pub struct PartFile {
    pub file: File,
    name: String,
}

impl Target {
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The generation that is open. The first writer of a pipeline without a committer opens one.
    pub fn current(&self) -> Result<u64> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match &*open {
            Some(open) => Ok(open.generation),
            None => Ok(self.begin_in(&mut open)?.0),
        }
    }

    /// Fences whoever wrote for this pipeline before, finishes what was committed, removes the rest, and opens the next
    /// generation.
    pub fn begin(&self) -> Result<(u64, Option<Marker>)> {
        self.begin_in(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn begin_in(&self, open: &mut Option<Open>) -> Result<(u64, Option<Marker>)> {
        *open = None;
        let failed = |e| file_error(&self.control, "prepare", e);
        fs::create_dir_all(&self.control).map_err(failed)?;
        let _lock = self.lock()?;
        let mut manifest = self.manifest()?.unwrap_or_default();
        self.publish_files(&manifest)?;
        manifest.version = MANIFEST_VERSION;
        manifest.generation += 1;
        manifest.files.clear();
        let generation = manifest.generation;
        write_json(&self.manifest_path(), &manifest)?;
        self.remove_unpublished().map_err(failed)?;
        fs::create_dir(self.part_folder(generation)).map_err(failed)?;
        sync_folder(&self.control).map_err(failed)?;
        *open = Some(Open { generation, begun: 0, complete: Vec::new() });
        Ok((generation, manifest.marker))
    }

    /// A new, empty file of the open epoch. Errors: `fenced`.
    pub fn create(&self, generation: u64) -> Result<PartFile> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = self.mine(&mut open, generation)?;
        open.begun += 1;
        let name = format!("part-{}-{generation}-{:06}.{}", self.pipeline, open.begun, self.extension);
        let path = self.part_folder(generation).join(&name);
        match File::create_new(&path) {
            Ok(file) => Ok(PartFile { file, name }),
            // A newer generation, in another process, has removed the folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.fenced()),
            Err(error) => Err(file_error(&path, "create", error)),
        }
    }

    /// The file has all its rows: it becomes visible with the epoch. Errors: `fenced`.
    pub fn complete(&self, generation: u64, part: PartFile) -> Result<()> {
        part.file.sync_all().map_err(|e| file_error(&self.part_folder(generation).join(&part.name), "write", e))?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        self.mine(&mut open, generation)?.complete.push(part.name);
        Ok(())
    }

    /// Makes the open epoch's complete files visible, together with the marker; without one, the marker stays what it was.
    pub fn publish(&self, generation: u64, marker: Option<&Marker>) -> Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = self.mine(&mut open, generation)?;
        if open.complete.is_empty() && marker.is_none() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let manifest = self.decide(open, marker)?;
        self.publish_files(&manifest)
    }

    /// Writes the manifest that names the files: afterwards the epoch is committed.
    fn decide(&self, open: &mut Open, marker: Option<&Marker>) -> Result<Manifest> {
        let parts = self.part_folder(open.generation);
        let mut manifest = self.manifest()?.filter(|m| m.generation == open.generation).ok_or_else(|| self.fenced())?;
        sync_folder(&parts).map_err(|e| file_error(&parts, "write", e))?;
        manifest.marker = marker.cloned().or(manifest.marker);
        manifest.source = open.generation;
        manifest.files = std::mem::take(&mut open.complete);
        write_json(&self.manifest_path(), &manifest)?;
        Ok(manifest)
    }

    /// Moves the manifest's files into the folder; those that are no longer at their source were moved before.
    fn publish_files(&self, manifest: &Manifest) -> Result<()> {
        let parts = self.part_folder(manifest.source);
        for name in &manifest.files {
            match fs::rename(parts.join(name), self.folder.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(file_error(&self.folder.join(name), "publish", error));
                }
                _ => {}
            }
        }
        sync_folder(&self.folder).map_err(|e| file_error(&self.folder, "write to", e))
    }

    fn remove_unpublished(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.control)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn mine<'a>(&self, open: &'a mut Option<Open>, generation: u64) -> Result<&'a mut Open> {
        open.as_mut().filter(|o| o.generation == generation).ok_or_else(|| self.fenced())
    }

    fn fenced(&self) -> Error {
        let message = format!("a newer job of pipeline {} writes to {}", self.pipeline, self.folder.display());
        Error::new(Code::Fenced, message)
    }

    fn manifest(&self) -> Result<Option<Manifest>> {
        let manifest: Option<Manifest> = read_json(&self.manifest_path())?;
        match &manifest {
            Some(m) if m.version != MANIFEST_VERSION => {
                Err(file_error(&self.manifest_path(), "understand", format!("its version is {}", m.version)))
            }
            _ => Ok(manifest),
        }
    }

    fn lock(&self) -> Result<Lock> {
        Lock::acquire(&self.control.join("lock"))
    }
    fn manifest_path(&self) -> PathBuf {
        self.control.join("manifest.json")
    }
    fn part_folder(&self, generation: u64) -> PathBuf {
        self.control.join(generation.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::contract::marker;

    struct Crashed {
        folder: tempfile::TempDir,
    }

    impl Crashed {
        /// A new process: nothing in memory is left.
        fn target(&self) -> Arc<Target> {
            Targets::default().of(self.folder.path(), &"p".into(), &FormatOptions::default())
        }
        fn write(&self, target: &Target, generation: u64, text: &str) {
            let mut part = target.create(generation).unwrap();
            part.file.write_all(text.as_bytes()).unwrap();
            target.complete(generation, part).unwrap();
        }
        fn visible(&self) -> Vec<String> {
            let mut rows = Vec::new();
            for entry in fs::read_dir(self.folder.path()).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    rows.extend(fs::read_to_string(path).unwrap().lines().map(str::to_string));
                }
            }
            rows.sort();
            rows
        }
        /// Starts anew, and leaves nothing unpublished behind.
        fn recovered(&self) -> Option<u64> {
            let (generation, marker) = self.target().begin().unwrap();
            let leftover = fs::read_dir(self.folder.path().join("_laminar/p").join(generation.to_string())).unwrap();
            assert_eq!(leftover.count(), 0);
            marker.map(|m| m.epoch.0)
        }
    }

    /// One committed epoch with row `a`, then an open one with rows `b` and `c` in two files.
    fn before_commit() -> (Crashed, Arc<Target>, u64) {
        let crashed = Crashed { folder: tempfile::tempdir().unwrap() };
        let target = crashed.target();
        let (generation, none) = target.begin().unwrap();
        assert_eq!(none, None);
        crashed.write(&target, generation, "a\n");
        target.publish(generation, Some(&marker(1))).unwrap();
        crashed.write(&target, generation, "b\n");
        crashed.write(&target, generation, "c\n");
        (crashed, target, generation)
    }

    #[test]
    fn dying_before_the_manifest_aborts_the_epoch() {
        let (crashed, target, _) = before_commit();
        drop(target);
        assert_eq!(crashed.recovered(), Some(1));
        assert_eq!(crashed.visible(), ["a"]);
    }

    #[test]
    fn dying_between_manifest_and_renames_is_finished_by_the_next() {
        for renamed in 0..=2 {
            let (crashed, target, _) = before_commit();
            let mut manifest = target.decide(target.open.lock().unwrap().as_mut().unwrap(), Some(&marker(2))).unwrap();
            manifest.files.truncate(renamed);
            target.publish_files(&manifest).unwrap();
            drop(target);
            assert_eq!(crashed.visible().len(), 1 + renamed);
            assert_eq!(crashed.recovered(), Some(2));
            assert_eq!(crashed.visible(), ["a", "b", "c"]);
            assert_eq!(crashed.recovered(), Some(2), "recovering again changes nothing");
            assert_eq!(crashed.visible(), ["a", "b", "c"]);
        }
    }

    #[test]
    fn a_published_file_that_was_moved_away_stays_away() {
        let (crashed, target, generation) = before_commit();
        target.publish(generation, Some(&marker(2))).unwrap();
        for entry in fs::read_dir(crashed.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::remove_file(path).unwrap();
            }
        }
        assert_eq!(crashed.recovered(), Some(2));
        assert_eq!(crashed.visible(), [""; 0]);
    }

    #[test]
    fn an_older_process_is_fenced_at_every_step() {
        let (crashed, zombie, old) = before_commit();
        let part = zombie.create(old).unwrap();
        let newer = crashed.target();
        let (generation, _) = newer.begin().unwrap();
        assert_eq!(zombie.create(old).unwrap_err().code(), Code::Fenced);
        let _ = zombie.complete(old, part);
        assert_eq!(zombie.publish(old, Some(&marker(2))).unwrap_err().code(), Code::Fenced);
        crashed.write(&newer, generation, "d\n");
        newer.publish(generation, Some(&marker(2))).unwrap();
        assert_eq!(crashed.visible(), ["a", "d"]);
    }
}
