//! Where package managers put the program, as data.
//!
//! A launcher script of npm is a detour: it starts the real program as a child of its own, needs Node for that, and stands
//! between it and every signal. So the program that it would start is looked for, and started instead.

use super::{Candidate, Origin};
use alloc::{format, vec::Vec};
use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

/// A platform, by the words of [`std::env::consts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Platform {
    /// For example `linux`, `macos`, `windows`.
    pub os: &'static str,
    /// For example `x86_64`, `aarch64`.
    pub arch: &'static str,
}

impl Platform {
    /// A platform.
    #[must_use]
    pub const fn new(os: &'static str, arch: &'static str) -> Self {
        Self { os, arch }
    }

    /// The one that this was built for.
    #[must_use]
    pub const fn here() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH)
    }

    /// The name of npm's package for it, and of the folder in that package; `None` if there is no package for it.
    fn package(self) -> Option<(&'static str, &'static str)> {
        Some(match (self.os, self.arch) {
            ("linux" | "android", "x86_64") => ("codex-linux-x64", "x86_64-unknown-linux-musl"),
            ("linux" | "android", "aarch64") => ("codex-linux-arm64", "aarch64-unknown-linux-musl"),
            ("macos", "x86_64") => ("codex-darwin-x64", "x86_64-apple-darwin"),
            ("macos", "aarch64") => ("codex-darwin-arm64", "aarch64-apple-darwin"),
            ("windows", "x86_64") => ("codex-win32-x64", "x86_64-pc-windows-msvc"),
            ("windows", "aarch64") => ("codex-win32-arm64", "aarch64-pc-windows-msvc"),
            _ => return None,
        })
    }

    /// The file name of the program.
    #[must_use]
    pub fn program_name(self) -> &'static str {
        if self.os == "windows" { "codex.exe" } else { "codex" }
    }
}

/// The places of the real program, if `shim` is a launcher of npm's package `@openai/codex`; none if it is not.
///
/// `shim` is the file with all links followed: the script of the package itself, or a `codex.cmd`, `codex.ps1` or `codex`
/// that npm has written beside a folder `node_modules`.
#[must_use]
pub fn natives_of_shim(shim: &Path, platform: Platform) -> Vec<PathBuf> {
    let Some(folder) = shim.parent() else { return Vec::new() };
    let is_script = shim.file_name() == Some(OsStr::new("codex.js")) && folder.file_name() == Some(OsStr::new("bin"));
    let is_written = matches!(shim.extension().and_then(OsStr::to_str), Some("cmd" | "ps1" | "CMD" | "PS1"));
    let root = match (is_script, is_written) {
        (true, _) => folder.parent().map(Path::to_owned),
        (_, true) => Some(folder.join("node_modules").join("@openai").join("codex")),
        _ => None,
    };
    match (root, platform.package()) {
        (Some(root), Some(_)) => natives_in_package(&root, platform),
        _ => Vec::new(),
    }
}

/// The places of the real program that belong to npm's package in this folder (`…/node_modules/@openai/codex`).
#[must_use]
pub fn natives_in_package(root: &Path, platform: Platform) -> Vec<PathBuf> {
    let Some((package, triple)) = platform.package() else { return Vec::new() };
    let in_vendor =
        |owner: PathBuf, folder: &str| owner.join("vendor").join(triple).join(folder).join(platform.program_name());
    let own = root.join("node_modules").join("@openai").join(package);
    let mut found = Vec::from([in_vendor(own, "bin")]);
    if let Some(beside) = root.parent() {
        found.push(in_vendor(beside.join(package), "bin"));
    }
    found.push(in_vendor(root.to_owned(), "bin"));
    // Where it was before 0.14x.
    found.push(in_vendor(root.to_owned(), "codex"));
    found
}

/// The places where installers put the program that may not be in `PATH`: tried last. Those that depend on the user's home
/// are left out without one.
#[must_use]
pub fn well_known(platform: Platform, home: Option<&Path>, app_data: Option<&Path>) -> Vec<Candidate> {
    let mut places: Vec<PathBuf> = Vec::new();
    let home = home.filter(|home| home.is_absolute());
    if platform.os == "windows" {
        if let Some(data) = app_data.filter(|data| data.is_absolute()) {
            places.push(data.join("npm").join("codex.cmd"));
        }
        places.extend(home.map(|home| home.join(".bun").join("bin").join("codex.exe")));
    } else {
        if let Some(home) = home {
            for folder in [".local/bin", ".npm-global/bin", ".bun/bin", ".volta/bin", "bin"] {
                places.push(home.join(folder).join("codex"));
            }
        }
        if platform.os == "macos" {
            places.push("/opt/homebrew/bin/codex".into());
        }
        if platform.os == "linux" {
            places.push("/home/linuxbrew/.linuxbrew/bin/codex".into());
        }
        places.push("/usr/local/bin/codex".into());
        places.push("/usr/bin/codex".into());
    }
    places.into_iter().map(|path| Candidate { origin: Origin::WellKnown, path }).collect()
}

/// The folder of an installed version below a cache folder.
#[must_use]
pub fn pinned_folder(cache: &Path, version: &str) -> PathBuf {
    cache.join(format!("codex-{version}"))
}

/// The places of the program in a folder that the pinned version was installed into, by pip or by npm.
#[must_use]
pub fn natives_in_pinned(folder: &Path, platform: Platform) -> Vec<PathBuf> {
    let mut found = Vec::from([folder.join("codex_cli_bin").join("bin").join(platform.program_name())]);
    found.extend(natives_in_package(&folder.join("node_modules").join("@openai").join("codex"), platform));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINUX: Platform = Platform::new("linux", "x86_64");

    #[test]
    fn the_script_of_npm_leads_to_the_program_of_its_package_on_every_platform() {
        let shim = Path::new("/n/lib/node_modules/@openai/codex/bin/codex.js");
        let expected = [
            "/n/lib/node_modules/@openai/codex/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex",
            "/n/lib/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex",
            "/n/lib/node_modules/@openai/codex/vendor/x86_64-unknown-linux-musl/bin/codex",
            "/n/lib/node_modules/@openai/codex/vendor/x86_64-unknown-linux-musl/codex/codex",
        ];
        assert_eq!(natives_of_shim(shim, LINUX), expected.map(PathBuf::from));
        let mac = natives_of_shim(shim, Platform::new("macos", "aarch64"));
        assert!(mac[1].ends_with("codex-darwin-arm64/vendor/aarch64-apple-darwin/bin/codex"), "{mac:?}");
        let shim = Path::new("/npm/codex.cmd");
        let windows = natives_of_shim(shim, Platform::new("windows", "x86_64"));
        let package = "/npm/node_modules/@openai/codex/node_modules/@openai/codex-win32-x64";
        assert_eq!(windows[0], Path::new(package).join("vendor/x86_64-pc-windows-msvc/bin/codex.exe"));
    }

    #[test]
    fn what_is_no_script_of_npm_stands_for_itself() {
        for other in ["/usr/bin/codex", "/x/bin/codex", "/x/codex.js", "/", "codex"] {
            assert!(natives_of_shim(Path::new(other), LINUX).is_empty(), "{other}");
        }
        let shim = Path::new("/n/node_modules/@openai/codex/bin/codex.js");
        assert!(natives_of_shim(shim, Platform::new("plan9", "x86_64")).is_empty());
    }

    #[test]
    fn well_known_places_depend_on_the_platform_and_never_on_the_current_folder() {
        let here = well_known(LINUX, Some(Path::new("/home/a")), None);
        assert_eq!(here[0].path, Path::new("/home/a/.local/bin/codex"));
        assert!(here.iter().all(|place| place.origin == Origin::WellKnown && place.path.is_absolute()));
        assert!(!well_known(LINUX, Some(Path::new("a")), None).iter().any(|place| place.path.starts_with("a")));
        let mac = well_known(Platform::new("macos", "aarch64"), None, None);
        assert_eq!(mac[0].path, Path::new("/opt/homebrew/bin/codex"));
        let windows = Platform::new("windows", "x86_64");
        let data = if cfg!(windows) { r"C:\data" } else { "/data" };
        let windows = well_known(windows, None, Some(Path::new(data)));
        assert!(windows[0].path.ends_with("npm/codex.cmd"), "{windows:?}");
    }
}
