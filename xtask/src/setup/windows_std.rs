//! The standard library of a Windows target: the toolchain's, else rustup's, else built once from
//! source.
//!
//! Building needs the sources of exactly the running rustc: `std` and compiler share unstable
//! interfaces.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustc_build_sysroot::{BuildMode, SysrootBuilder, SysrootConfig};

use super::apt_source;
use crate::process::{BUILD_LIMIT, Limits, is_installed, output_of};
use crate::progress::Step;
use crate::workspace::{Workspace, cargo_program};

/// A folder or an archive with the sources of `std`, for machines where neither rustup nor the
/// distribution has them. Whoever names sources wants those: nothing is downloaded then.
const SOURCE_VARIABLE: &str = "NPIPE_RUST_SRC";

/// Suites of Debian that carry compilers as new as rustup's, the most stable first.
const SUITES: [&str; 3] = ["trixie-backports", "testing", "unstable"];

/// rustup waits long for a network that is not there.
const RUSTUP_LIMIT: Limits = Limits::total(Duration::from_secs(180));

/// What the library is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Programs are linked against it.
    Build,
    /// Code is only checked against it. Needs no linker for the target.
    Check,
}

/// Makes sure that there is a `std` for `target`. Gives the sysroot to name to rustc, or nothing
/// where the toolchain has the target.
pub(super) fn provide(
    workspace: &Workspace,
    step: &Step,
    target: &str,
    purpose: Purpose,
) -> Result<Option<PathBuf>> {
    if is_in_toolchain(target)? {
        return Ok(None);
    }
    let compiler = Compiler::running()?;
    let sysroot = workspace.cache.join("sysroot").join(&compiler.id).join(match purpose {
        Purpose::Build => "build",
        Purpose::Check => "check",
    });
    // The builder moves the finished library here in one step.
    if sysroot.join("lib/rustlib").join(target).is_dir() {
        return Ok(Some(sysroot));
    }
    let source = match std::env::var_os(SOURCE_VARIABLE).filter(|source| !source.is_empty()) {
        Some(named) => unpacked(workspace, step, Path::new(&named))?,
        None => {
            let refused = match add_by_rustup(step, target) {
                Ok(()) if is_in_toolchain(target)? => return Ok(None),
                Ok(()) => "rustup installed the target for a compiler other than the running one".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            step.say(&format!(
                "no std for {target} from rustup; building it from Debian's package of its sources"
            ));
            package_source(workspace, step, &compiler.release).with_context(|| {
                format!(
                    "no std for {target}. Install it with `rustup target add {target}`, or set {SOURCE_VARIABLE} to a folder \
                     or archive with the `library` folder of Rust {}.\nrustup said: {refused}",
                    compiler.release
                )
            })?
        }
    };
    build(step, &source, &sysroot, target, purpose)?;
    Ok(Some(sysroot))
}

struct Compiler {
    release: String,
    /// Differs between any two compilers, also between nightlies of one release.
    id: String,
}

impl Compiler {
    fn running() -> Result<Self> {
        let version = rustc(&["-vV"])?;
        let field = |name: &str| {
            let value = version.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            value.map(str::to_owned).with_context(|| format!("`rustc -vV` does not tell its {name}"))
        };
        let release = field("release:")?;
        let commit = field("commit-hash:")?;
        Ok(Self { id: format!("{release}-{}", &commit[..commit.len().min(12)]), release })
    }
}

fn rustc(arguments: &[&str]) -> Result<String> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(&program).args(arguments).output().context("failed to start rustc")?;
    if !output.status.success() {
        bail!("`rustc {}` failed:\n{}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn is_in_toolchain(target: &str) -> Result<bool> {
    let folder = rustc(&["--print", "target-libdir", "--target", target])?;
    // Absent, or left empty by a package manager: both mean no.
    let Ok(entries) = std::fs::read_dir(folder.trim()) else { return Ok(false) };
    Ok(entries.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")))
}

fn add_by_rustup(step: &Step, target: &str) -> Result<()> {
    if !is_installed("rustup") {
        bail!("there is no rustup");
    }
    let mut command = Command::new("rustup");
    command.args(["target", "add", target]);
    command.env("RUSTUP_MAX_RETRIES", "0").env("RUST_BACKTRACE", "0");
    output_of(step, &mut command, RUSTUP_LIMIT).map(drop)
}

/// The `library` folder in what the user named.
fn unpacked(workspace: &Workspace, step: &Step, named: &Path) -> Result<PathBuf> {
    // As written on the command line: relative to the current directory.
    let named = std::path::absolute(named).context("failed to find the current directory")?;
    let folder = if named.is_dir() {
        named.clone()
    } else if named.is_file() {
        let folder = workspace.cache.join("rust-src/unpacked");
        fresh(&folder)?;
        let mut command = Command::new("tar");
        command.arg("--extract").arg("--file").arg(&named).arg("--directory").arg(&folder);
        output_of(step, &mut command, BUILD_LIMIT)?;
        folder
    } else {
        bail!("{SOURCE_VARIABLE} names {}, which does not exist", named.display());
    };
    [folder.join("library"), folder]
        .into_iter()
        .find(|folder| folder.join("std/Cargo.toml").is_file())
        .with_context(|| format!("{} holds no folder `library` with the sources of std", named.display()))
}

/// The `library` folder from the distribution's package `rust-src` in the version `release`.
fn package_source(workspace: &Workspace, step: &Step, release: &str) -> Result<PathBuf> {
    if !is_installed("apt-get") || !is_installed("dpkg") {
        bail!("this is no Debian-like system, which could have the package rust-src");
    }
    let folder = workspace.cache.join("rust-src/package");
    let library = folder.join(format!("usr/src/rustc-{release}/library"));
    if library.is_dir() {
        return Ok(library);
    }
    let configured = configured_sources()?;
    let mut seen = Vec::new();
    for suite in SUITES {
        let sources = apt_source::with_suite(&configured, suite);
        if sources.is_empty() {
            bail!("no Debian archive is configured in /etc/apt");
        }
        let apt = ScratchApt::new(workspace, &sources.join("\n"))?;
        output_of(step, &mut apt.command("apt-get", &["update"]), BUILD_LIMIT)?;
        let table = output_of(step, &mut apt.command("apt-cache", &["madison", "rust-src"]), BUILD_LIMIT)?;
        let Some(version) = versions(&table).find(|version| is_release(version, release)) else {
            seen.extend(versions(&table).map(|version| format!("{version} in {suite}")));
            continue;
        };
        fresh(&folder)?;
        let mut download = apt.command("apt-get", &["download", &format!("rust-src={version}")]);
        output_of(step, download.current_dir(&folder), BUILD_LIMIT)?;
        let package = std::fs::read_dir(&folder)?
            .flatten()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get downloaded nothing")?;
        output_of(step, Command::new("dpkg").arg("-x").arg(&package).arg(&folder), BUILD_LIMIT)?;
        std::fs::remove_file(&package)?;
        if !library.is_dir() {
            bail!("the package rust-src {version} has no folder {}", library.display());
        }
        return Ok(library);
    }
    bail!("Debian has no package rust-src of version {release}, only: {}", seen.join(", "))
}

/// The texts of all source files of apt.
fn configured_sources() -> Result<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(entries) = std::fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(entries.flatten().map(|entry| entry.path()));
    }
    files.retain(|path| {
        path.is_file()
            && path.extension().is_some_and(|extension| extension == "list" || extension == "sources")
    });
    let texts: std::io::Result<Vec<String>> = files.iter().map(std::fs::read_to_string).collect();
    Ok(texts.context("failed to read the sources of apt")?.join("\n\n"))
}

/// An apt that knows only the given sources, and touches nothing of the machine's.
struct ScratchApt {
    root: PathBuf,
}

impl ScratchApt {
    fn new(workspace: &Workspace, sources: &str) -> Result<Self> {
        let root = workspace.cache.join("apt");
        fresh(&root)?;
        for folder in ["lists/partial", "cache/archives/partial", "preferences.d"] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        std::fs::write(root.join("rust.sources"), sources)?;
        std::fs::write(root.join("status"), "")?;
        Ok(Self { root })
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let options = [
            ("Dir::Etc::SourceList", "rust.sources"),
            ("Dir::Etc::SourceParts", "preferences.d"),
            ("Dir::Etc::PreferencesParts", "preferences.d"),
            ("Dir::State::Lists", "lists"),
            ("Dir::State::Status", "status"),
            ("Dir::Cache", "cache"),
        ];
        for (option, place) in options {
            command.arg("-o").arg(format!("{option}={}", self.root.join(place).display()));
        }
        // The download user of apt may not enter the home directory that the target directory often lies
        // in.
        command.args(["-o", "APT::Sandbox::User="]).args(["-o", "Acquire::Languages=none"]);
        command.args(arguments);
        command
    }
}

/// The versions in a table of `apt-cache madison`: `rust-src | 1.95.0+dfsg1-1 | http://... Packages`.
fn versions(table: &str) -> impl Iterator<Item = &str> {
    table.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim)
}

fn is_release(version: &str, release: &str) -> bool {
    version.strip_prefix(release).is_some_and(|rest| rest.starts_with(['+', '-', '~']))
}

fn build(step: &Step, source: &Path, sysroot: &Path, target: &str, purpose: Purpose) -> Result<()> {
    step.now(&format!("building std for {target}, once; this takes about a minute"));
    let mut cargo = Command::new(cargo_program());
    // `std` uses what the compiler offers to nobody else.
    cargo.env("RUSTC_BOOTSTRAP", "1");
    let mode = match purpose {
        Purpose::Build => BuildMode::Build,
        Purpose::Check => BuildMode::Check,
    };
    SysrootBuilder::new(sysroot, target)
        .build_mode(mode)
        .sysroot_config(SysrootConfig::WithStd { std_features: vec!["panic-unwind".to_owned()] })
        .cargo(cargo)
        .build_from_source(source)
        .with_context(|| format!("failed to build std for {target} from {}", source.display()))?;
    Ok(())
}

/// An empty folder at `path`.
fn fresh(path: &Path) -> Result<()> {
    if path.exists() {
        std::fs::remove_dir_all(path).with_context(|| format!("failed to empty {}", path.display()))?;
    }
    std::fs::create_dir_all(path).with_context(|| format!("failed to create {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_release_and_nothing_longer() {
        let table = "  rust-src | 1.95.0+dfsg1-1~bpo13+1 | http://mirror.example trixie-backports/main amd64 Packages\n";
        let version = versions(table).next().expect("one line, one version");
        assert!(is_release(version, "1.95.0"));
        assert!(!is_release(version, "1.9"));
        assert!(!is_release(version, "1.94.0"));
    }
}
