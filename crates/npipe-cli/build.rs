//! The commit and the target of this build, for `npipe --version`.

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=NPIPE_TARGET={}", env::var("TARGET").unwrap_or_default());
    println!("cargo:rustc-env=NPIPE_COMMIT={}", commit().unwrap_or_else(|| "unknown".to_owned()));
}

fn commit() -> Option<String> {
    // A checkout, whose directory is not always .git.
    if let Some(head) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        if Path::new(&head).exists() {
            println!("cargo:rerun-if-changed={head}");
        }
        return git(&["rev-parse", "--short=12", "HEAD"]);
    }
    // A package has no checkout; cargo notes the commit in it.
    let noted = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let (_, sha1) = noted.split_once("\"sha1\": \"")?;
    sha1.get(..12).map(str::to_owned)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
