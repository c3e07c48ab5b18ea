//! `cargo xtask check`: what can be said about the code without running it.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{BUILD_LIMIT, is_installed, output_of};
use crate::progress::Report;
use crate::windows::{Windows, cross};
use crate::workspace::Workspace;
use crate::{api, setup, tidy};

/// Targets that people use and for which nothing can be linked from Linux.
const FOREIGN: [&str; 4] =
    ["x86_64-pc-windows-msvc", "i686-pc-windows-msvc", "aarch64-pc-windows-msvc", "aarch64-apple-darwin"];

pub(crate) fn run(workspace: &Workspace, report: &mut Report) -> Result<()> {
    let mut format = workspace.cargo("fmt");
    cargo(report, "fmt", format.args(["--all", "--check"]));
    report.attempt("layering and house rules", |_| {
        let complaints = tidy::complaints(workspace)?;
        if !complaints.is_empty() {
            bail!("{}", complaints.join("\n"));
        }
        Ok(())
    });
    let mut here = workspace.cargo("clippy");
    here.args(["--workspace", "--all-targets", "--all-features"]);
    cargo(report, "clippy: this machine", deny_warnings(&mut here));

    let windows = setup::everything(workspace, report)?;
    clippy_for_windows(workspace, report, &windows);
    documentation(workspace, report, &windows);
    api::check(workspace, report, &windows);
    if let Windows::Wine { .. } = windows {
        for target in FOREIGN {
            let check = setup::check_target(workspace, report, target)?;
            let mut clippy = workspace.cargo("clippy");
            cross(&mut clippy, check.target, check.sysroot.as_deref());
            clippy.args(["--package", "npipe", "--package", "npipe-cli", "--all-features"]);
            cargo(report, &format!("clippy: {target}"), deny_warnings(&mut clippy));
        }
    }
    licences(workspace, report);
    Ok(())
}

fn clippy_for_windows(workspace: &Workspace, report: &mut Report, windows: &Windows) {
    let title = match windows {
        Windows::Native => "clippy: Windows",
        Windows::Wine { .. } => "clippy: x86_64-pc-windows-gnu",
    };
    let mut all = windows.cargo(workspace, "clippy");
    all.args(["--workspace", "--all-targets", "--all-features"]);
    cargo(report, title, deny_warnings(&mut all));

    // Features only add: each must stand alone.
    let alone = workspace.features("npipe").into_iter().map(Some);
    for feature in std::iter::once(None).chain(alone) {
        let mut one = windows.cargo(workspace, "clippy");
        one.args(["--package", "npipe", "--lib", "--no-default-features"]);
        if let Some(feature) = feature {
            one.args(["--features", feature]);
        }
        let name = feature.unwrap_or("none");
        cargo(report, &format!("{title}, features: {name}"), deny_warnings(&mut one));
    }
}

/// For users, and with the private items for those who work here: links break in either.
fn documentation(workspace: &Workspace, report: &mut Report, windows: &Windows) {
    for (title, private) in
        [("documentation", None), ("documentation, private items", Some("--document-private-items"))]
    {
        let mut doc = windows.cargo(workspace, "doc");
        let flags = doc.get_envs().find(|(name, _)| *name == "RUSTDOCFLAGS").and_then(|(_, value)| value);
        let flags = format!("{} -D warnings", flags.unwrap_or_default().to_string_lossy());
        doc.env("RUSTDOCFLAGS", flags);
        doc.args(["--package", "npipe", "--package", "npipe-cli", "--all-features", "--no-deps"])
            .args(private);
        cargo(report, title, &mut doc);
    }
}

fn licences(workspace: &Workspace, report: &mut Report) {
    let title = "cargo deny: bans, licences, sources";
    if !is_installed("cargo-deny") {
        return report.skip_step(title, "no cargo-deny; `cargo install cargo-deny` brings it");
    }
    // Advisories need a database from the network and change without a commit of ours.
    cargo(report, title, workspace.cargo("deny").args(["check", "bans", "licenses", "sources"]));
}

fn deny_warnings(clippy: &mut Command) -> &mut Command {
    clippy.args(["--", "--deny", "warnings"])
}

fn cargo(report: &mut Report, title: &str, command: &mut Command) {
    report.attempt(title, |step| output_of(step, command, BUILD_LIMIT));
}
