//! A home for one server, removed after it.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use turnwire_core::launch::LaunchError;

/// How often removing is tried, as what has just ended may still be writing, and with which pauses.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(25);

/// A folder that nobody else uses. Dropping removes it, with all that is in it.
#[derive(Debug)]
pub(super) struct TemporaryHome {
    path: PathBuf,
}

impl TemporaryHome {
    /// Makes one in the system's folder for what is temporary.
    pub(super) fn new() -> Result<Self, LaunchError> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let parent = env::temp_dir();
        let parent = fs::canonicalize(&parent).unwrap_or(parent);
        let mut kind = io::ErrorKind::AlreadyExists;
        for _ in 0..100 {
            let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("turnwire-home-{}-{number}-{nanos:08x}", process::id()));
            match private_folder(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    kind = error.kind();
                    break;
                }
            }
        }
        Err(LaunchError::Home { path: parent, kind })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TemporaryHome {
    fn drop(&mut self) {
        for _ in 0..TRIES {
            match fs::remove_dir_all(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => thread::sleep(PAUSE),
                _ => return,
            }
        }
    }
}

/// A folder for this user alone, which did not exist before.
fn private_folder(path: &Path) -> io::Result<()> {
    #[cfg_attr(not(unix), allow(unused_mut, reason = "only Unix has a mode to set"))]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}
