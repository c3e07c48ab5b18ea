//! Folders that are gone when the run ends, also when it is interrupted.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};

static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// A private folder that lives as long as this.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// In the system's temporary folder, whose path is short: a Unix socket's has room for 108
    /// bytes.
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("npipe-{name}-{}", std::process::id()));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("failed to create {}", path.display()))?;
        FOLDERS.lock().expect("no holder panics").push(path.clone());
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// For a run that ends without dropping what it holds.
pub(crate) fn remove_all() {
    FOLDERS.lock().expect("no holder panics").iter().for_each(|folder| remove(folder));
}

fn remove(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("could not remove {}: {error}; please remove it by hand", folder.display());
    }
}
