//! Where things are: the repository, cargo's target directory, our caches below it, the packages.
//!
//! Asks cargo, because `CARGO_TARGET_DIR` and configuration files move the target directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The repository as `cargo metadata` tells it.
pub(crate) struct Workspace {
    /// The folder of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// What xtask keeps between runs, below cargo's target directory: the Windows `std`, the Wine
    /// prefix, special builds.
    pub(crate) cache: PathBuf,
    metadata: Value,
}

impl Workspace {
    pub(crate) fn locate() -> Result<Self> {
        // Compiled in rather than the current directory: `cargo xtask` works from any folder of the
        // repository.
        let manifest =
            Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")?;
        let output = Command::new(cargo_program())
            .args(["metadata", "--format-version=1", "--no-deps"])
            .current_dir(manifest)
            .output()
            .context("failed to start `cargo metadata`")?;
        if !output.status.success() {
            bail!("`cargo metadata` failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)
            .context("failed to read the output of `cargo metadata`")?;
        let path = |key: &str| {
            metadata[key].as_str().map(PathBuf::from).with_context(|| format!("`cargo metadata` lacks {key}"))
        };
        let root = path("workspace_root")?;
        let cache = path("target_directory")?.join("xtask");
        Ok(Self { root, cache, metadata })
    }

    /// `cargo SUBCOMMAND`, run at the root of the repository.
    pub(crate) fn cargo(&self, subcommand: &str) -> Command {
        let mut command = Command::new(cargo_program());
        command.arg(subcommand).current_dir(&self.root);
        command
    }

    /// Cargo of another toolchain. `$CARGO` names the running toolchain's own binary, so this goes
    /// through rustup.
    pub(crate) fn cargo_of(&self, toolchain: &str, subcommand: &str) -> Command {
        let mut command = Command::new("rustup");
        command.args(["run", toolchain, "cargo", subcommand]).current_dir(&self.root);
        command.env_remove("CARGO").env_remove("RUSTC").env_remove("RUSTDOC");
        command
    }

    /// Whether `package` has a target called `target` of the given kind (`test`, `bench`, ...).
    pub(crate) fn has_target(&self, package: &str, kind: &str, target: &str) -> bool {
        self.package_values().filter(|value| value["name"] == package).any(|value| {
            value["targets"].as_array().is_some_and(|targets| {
                targets.iter().any(|entry| {
                    entry["name"] == target
                        && entry["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|name| name == kind))
                })
            })
        })
    }

    /// The features of `package` that a user can choose one by one.
    pub(crate) fn features(&self, package: &str) -> Vec<&str> {
        self.package_values()
            .filter(|value| value["name"] == package)
            .filter_map(|value| value["features"].as_object())
            .flat_map(|features| features.keys().map(String::as_str))
            .filter(|feature| *feature != "default")
            .collect()
    }

    /// The oldest compiler that `package` declares to need.
    pub(crate) fn rust_version(&self, package: &str) -> Result<String> {
        let mut packages = self.package_values().filter(|value| value["name"] == package);
        let version = packages.find_map(|value| value["rust_version"].as_str());
        version.map(str::to_owned).with_context(|| format!("the package {package} declares no rust-version"))
    }

    /// Every direct dependency of every package, from outside the workspace.
    pub(crate) fn external_dependencies(&self) -> Vec<(&str, &str)> {
        self.package_values()
            .flat_map(|package| {
                let user = package["name"].as_str().unwrap_or_default();
                let dependencies = package["dependencies"].as_array().map(Vec::as_slice).unwrap_or_default();
                dependencies
                    .iter()
                    .filter(|dependency| !dependency["source"].is_null())
                    .filter_map(move |dependency| Some((user, dependency["name"].as_str()?)))
            })
            .collect()
    }

    fn package_values(&self) -> impl Iterator<Item = &Value> {
        self.metadata["packages"].as_array().into_iter().flatten()
    }
}

/// Cargo, as the cargo that started us calls itself.
pub(crate) fn cargo_program() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
