//! `cargo xtask versions`: the oldest compilers and the oldest dependencies that packages declare.
//!
//! Both are promises to users: `rust-version` in the manifest of a package, and the lowest version
//! that each requirement on a dependency admits. They are checked for the library and the tool,
//! which users compile; tests and chores run on the newest compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{BUILD_LIMIT, is_installed, output_of};
use crate::progress::{Report, Step};
use crate::setup;
use crate::windows::{GNU, Windows};
use crate::workspace::Workspace;

/// The packages that users compile, and the sets of features to compile each with. The library's
/// are all but `tonic`: the tonic in `Cargo.lock` needs a newer Rust, and the feature promises that
/// of its dependency.
const PUBLISHED: [(&str, &[&str]); 2] = [
    ("npipe", &["--features=axum,futures-io,hyper-util,mio,tokio,tracing", "--no-default-features"]),
    ("npipe-cli", &["--all-features"]),
];

pub(crate) fn run(workspace: &Workspace, report: &mut Report) -> Result<()> {
    let windows = setup::everything(workspace, report)?;
    for (package, features) in PUBLISHED {
        let version = workspace.rust_version(package)?;
        oldest_compiler(workspace, report, &windows, package, &version, features);
    }
    oldest_dependencies(workspace, report, &windows)
}

/// Compiles `package` with Rust `version`, for this machine and for Windows.
fn oldest_compiler(
    workspace: &Workspace,
    report: &mut Report,
    windows: &Windows,
    package: &str,
    version: &str,
    features: &[&str],
) {
    let title = format!("{package} with Rust {version}");
    let targets = match windows {
        Windows::Native => [None, None],
        Windows::Wine { .. } => [None, Some(GNU)],
    };
    if !is_installed("rustup") {
        return report.skip_step(&title, format!("no rustup, which would install Rust {version}"));
    }
    let installed = report.prepare(&format!("setup: Rust {version}"), |step| {
        targets.iter().try_for_each(|target| install(workspace, step, version, *target))
    });
    if let Err(error) = installed {
        return report.skip_step(&title, format!("Rust {version} could not be installed: {error:#}"));
    }
    let mut targets = targets.to_vec();
    targets.dedup();
    for target in targets {
        for feature_set in features {
            let mut check = workspace.cargo_of(version, "check");
            check.args(["--locked", "--package", package, feature_set]);
            check.args(target.iter().flat_map(|target| ["--target", target]));
            check.arg("--target-dir").arg(workspace.cache.join("target/oldest"));
            let place = target.unwrap_or("this machine");
            report.attempt(&format!("{title}: {place}, {feature_set}"), |step| {
                output_of(step, &mut check, BUILD_LIMIT)
            });
        }
    }
}

/// Makes sure that there is a toolchain `version` that can check for `target`.
fn install(workspace: &Workspace, step: &Step, version: &str, target: Option<&str>) -> Result<()> {
    let mut libraries = Command::new("rustup");
    libraries.args(["run", version, "rustc", "--print", "target-libdir"]).current_dir(&workspace.root);
    libraries.args(target.iter().flat_map(|target| ["--target", target]));
    let is_there = libraries.output().is_ok_and(|output| {
        output.status.success()
            && std::fs::read_dir(String::from_utf8_lossy(&output.stdout).trim())
                .is_ok_and(|mut entries| entries.next().is_some())
    });
    if is_there {
        return Ok(());
    }
    let mut install = Command::new("rustup");
    install.args(["toolchain", "install", version, "--profile", "minimal", "--no-self-update"]);
    install.args(target.iter().flat_map(|target| ["--target", target]));
    output_of(step, install.env("RUSTUP_MAX_RETRIES", "1"), BUILD_LIMIT).map(drop)
}

/// Compiles the library and the tool against the lowest version of each direct dependency that
/// their manifests admit.
fn oldest_dependencies(workspace: &Workspace, report: &mut Report, windows: &Windows) -> Result<()> {
    let folder = workspace.cache.join("oldest-dependencies");
    report.require("oldest dependencies: copy", |_| copy_published(&workspace.root, &folder))?;
    let resolved = report.attempt("oldest dependencies: resolve", |step| {
        let mut resolve = workspace.cargo("generate-lockfile");
        // Cargo has no stable flag for this. The code is compiled without unstable features.
        resolve.args(["-Z", "direct-minimal-versions"]).env("RUSTC_BOOTSTRAP", "1").current_dir(&folder);
        output_of(step, &mut resolve, BUILD_LIMIT)
    });
    if resolved.is_none() {
        return Ok(());
    }
    let mut checks = vec![("this machine", workspace.cargo("check"))];
    if let Windows::Wine { .. } = windows {
        checks.push((GNU, windows.cargo(workspace, "check")));
    }
    for (place, mut check) in checks {
        check.args(["--locked", "--all-features"]).current_dir(&folder);
        check.arg("--target-dir").arg(workspace.cache.join("target/oldest-dependencies"));
        report.attempt(&format!("oldest dependencies: {place}"), |step| {
            output_of(step, &mut check, BUILD_LIMIT)
        });
    }
    Ok(())
}

/// Makes a workspace in `folder` of the published packages alone, without the dependencies of their
/// tests, whose requirements would raise the versions of the others.
fn copy_published(root: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).with_context(|| format!("failed to empty {}", folder.display()))?;
    }
    let read = |path: PathBuf| {
        std::fs::read_to_string(&path).with_context(|| format!("failed to read {}", path.display()))
    };
    for (package, _) in PUBLISHED {
        let place = Path::new("crates").join(package);
        copy_folder(&root.join(&place).join("src"), &folder.join(&place).join("src"))?;
        let script = root.join(&place).join("build.rs");
        if script.exists() {
            std::fs::write(folder.join(&place).join("build.rs"), read(script)?)?;
        }
        let manifest = without_tests(&read(root.join(&place).join("Cargo.toml"))?);
        std::fs::write(folder.join(&place).join("Cargo.toml"), manifest)?;
    }
    std::fs::write(folder.join("Cargo.toml"), with_published(&read(root.join("Cargo.toml"))?)?)?;
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("failed to create {}", to.display()))?;
    let entries = std::fs::read_dir(from).with_context(|| format!("failed to list {}", from.display()))?;
    for entry in entries {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target)
                .with_context(|| format!("failed to copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// The manifest of a package without its tables about tests and examples, which are not copied.
fn without_tests(manifest: &str) -> String {
    const OMITTED: [&str; 4] = ["dev-dependencies", "[[example]]", "[[test]]", "[[bench]]"];
    let mut kept = true;
    let lines = manifest.lines().filter(|line| {
        if line.starts_with('[') {
            kept = !OMITTED.iter().any(|table| line.contains(table));
        }
        kept
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// The manifest of the workspace with the published packages as its only members.
fn with_published(manifest: &str) -> Result<String> {
    let Some(old) = manifest.lines().find(|line| line.starts_with("members = ")) else {
        bail!("the manifest of the workspace has no line `members = [...]`");
    };
    let members = PUBLISHED.map(|(package, _)| format!("\"crates/{package}\"")).join(", ");
    Ok(manifest.replace(old, &format!("members = [{members}]")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_tests_are_left_out_and_those_that_follow_are_kept() {
        let manifest = "[dependencies]\na = \"1\"\n\n[target.'cfg(windows)'.dev-dependencies]\nb = { features = [\n  \"c\",\n] }\n\
                        \n[[example]]\nname = \"d\"\n\n[lints]\nworkspace = true\n";
        assert_eq!(without_tests(manifest), "[dependencies]\na = \"1\"\n\n[lints]\nworkspace = true\n");
    }

    #[test]
    fn a_workspace_has_the_published_packages_only() {
        let manifest = "[workspace]\nmembers = [\"crates/npipe\", \"xtask\"]\nresolver = \"3\"\n";
        let expected = "[workspace]\nmembers = [\"crates/npipe\", \"crates/npipe-cli\"]\nresolver = \"3\"\n";
        assert_eq!(with_published(manifest).expect("it has members"), expected);
    }
}
