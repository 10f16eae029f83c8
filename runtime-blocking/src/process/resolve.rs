//! The look on the disk that follows the order of [`candidates`].

use std::{
    env, io,
    path::{Path, PathBuf},
};
use turnwire_core::launch::{
    CODEX_BIN, Candidate, LaunchError, Obstacle, Origin, Platform, Program, Tried, candidates, natives_in_pinned,
    natives_of_shim, pinned_folder, well_known,
};

/// Finds the program, by the variables `CODEX_BIN` and `PATH` of this process (on Windows also `PATHEXT`).
///
/// The path in the answer is absolute. The variables that a command sets for its child play no part here.
///
/// # Errors
///
/// See [`resolve_among`].
pub fn resolve(program: &Program) -> Result<PathBuf, LaunchError> {
    if *program == Program::Pinned {
        return resolve_pinned();
    }
    let pathext = cfg!(windows).then(|| env::var_os("PATHEXT").unwrap_or_default());
    let mut places =
        candidates(program, env::var_os(CODEX_BIN).as_deref(), env::var_os("PATH").as_deref(), pathext.as_deref());
    let is_named = env::var_os(CODEX_BIN).is_some_and(|value| !value.is_empty());
    if *program == Program::Search && !is_named {
        let home = env::var_os(if cfg!(windows) { "USERPROFILE" } else { "HOME" }).map(PathBuf::from);
        let data = env::var_os("APPDATA").map(PathBuf::from);
        for place in well_known(Platform::here(), home.as_deref(), data.as_deref()) {
            if !places.iter().any(|known| known.path == place.path) {
                places.push(place);
            }
        }
    }
    resolve_among(places).map(without_shim)
}

fn resolve_pinned() -> Result<PathBuf, LaunchError> {
    let version = crate::pinned::VERSION;
    let folder = crate::pinned::cache_folder().map(|cache| pinned_folder(&cache, version));
    let paths = folder.map_or_else(Vec::new, |folder| natives_in_pinned(&folder, Platform::here()));
    resolve_among(paths.into_iter().map(Candidate::pinned).collect())
}

/// The program that a launcher script of npm would start, or what was found if it is none.
fn without_shim(found: PathBuf) -> PathBuf {
    let Ok(followed) = found.canonicalize() else { return found };
    natives_of_shim(&followed, Platform::here()).into_iter().find_map(|native| look(&native).ok()).unwrap_or(found)
}

/// The first of these places that holds a file that may be executed, as an absolute path.
///
/// # Errors
///
/// [`LaunchError::NotExecutable`] if none does but one holds something else that was named explicitly, or a file in `PATH`
/// without execute permission; else [`LaunchError::NotFound`] with all places.
pub fn resolve_among(places: Vec<Candidate>) -> Result<PathBuf, LaunchError> {
    let mut tried = Vec::new();
    for candidate in places {
        match look(&candidate.path) {
            Ok(path) => return Ok(path),
            Err(obstacle) => tried.push(Tried::new(candidate, obstacle)),
        }
    }
    let blocked = tried.iter().find(|place| match place.obstacle {
        Obstacle::NotExecutable => true,
        // A folder named `codex` somewhere in PATH is nobody's mistake; one named explicitly is.
        Obstacle::NotAFile => !matches!(place.candidate.origin, Origin::SearchPath | Origin::WellKnown),
        _ => false,
    });
    match blocked {
        Some(place) => Err(LaunchError::NotExecutable { path: place.candidate.path.clone(), obstacle: place.obstacle }),
        None => Err(LaunchError::NotFound { tried }),
    }
}

fn look(path: &Path) -> Result<PathBuf, Obstacle> {
    let found = path.metadata().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Obstacle::Missing,
        kind => Obstacle::Unreadable(kind),
    })?;
    if !found.is_file() {
        return Err(Obstacle::NotAFile);
    }
    if !is_executable(&found) {
        return Err(Obstacle::NotExecutable);
    }
    // A relative path would be looked up again in the child's folder, on some systems.
    std::path::absolute(path).map_err(|e| Obstacle::Unreadable(e.kind()))
}

/// Whether anybody may execute it. Whether this user may is for the start itself to find out.
#[cfg(unix)]
fn is_executable(file: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
fn is_executable(_file: &std::fs::Metadata) -> bool {
    true
}
