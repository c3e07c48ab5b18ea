//! A Wine of our own: a prefix under the target directory, and one Windows process that keeps it
//! warm during a run.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use super::LINKER;
use crate::progress::Step;
use crate::workspace::Workspace;

/// What Wine lacks, see its first lines.
const RANDOM_SOURCE: &str = include_str!("bcryptprimitives.c");

/// A Wine prefix that is ready to run programs.
pub(crate) struct Wine {
    prefix: PathBuf,
    version: String,
    cpu: String,
    resident: Option<Child>,
}

impl Wine {
    /// Makes the prefix, if it is not there yet, and starts it.
    pub(super) fn start(workspace: &Workspace, step: &Step) -> Result<Self> {
        let folder = workspace.cache.join("wine");
        let version = Command::new("wine").arg("--version").env("WINEDEBUG", "-all").output();
        let version = version.context("failed to start `wine --version`")?;
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        let mut wine = Self { prefix: folder.join("prefix"), version, cpu: first_cpu(), resident: None };

        let ready = folder.join("ready");
        let made_of = format!("{}\n{RANDOM_SOURCE}", wine.version);
        if std::fs::read_to_string(&ready).is_ok_and(|text| text == made_of) {
            wine.keep_warm()?;
            return Ok(wine);
        }
        step.now("making a Wine prefix");
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("failed to empty {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder)?;
        wine.run(&["wineboot", "--init"])?;
        wine.keep_warm()?;
        // Unless told otherwise Wine says it is Windows 7, which lacks what the library builds on.
        wine.run(&["winecfg", "-v", "win10"])?;
        wine.add_random_numbers(&folder)?;
        std::fs::write(ready, made_of)?;
        Ok(wine)
    }

    /// A command that runs the Windows program `executable`.
    pub(crate) fn program(&self, executable: &Path) -> Command {
        let mut command = Command::new("taskset");
        command.arg("-c").arg(&self.cpu).arg("wine").arg(executable).envs(self.environment());
        command
    }

    /// The same, in the words of cargo's `runner`.
    pub(crate) fn runner(&self) -> String {
        format!("taskset -c {} wine", self.cpu)
    }

    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("WINEPREFIX", self.prefix.to_string_lossy().into_owned()),
            ("WINEARCH", "win64".to_owned()),
            ("WINEDEBUG", "-all".to_owned()),
            // No offers to install .NET or a browser engine, and no window about a crash, which would wait
            // for a click.
            ("WINEDLLOVERRIDES", "mscoree,mshtml=;winedbg.exe=d".to_owned()),
        ]
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Runs one of Wine's own tools. It must not be taken down with a family of processes: the
    /// services of the prefix descend from whoever starts first.
    fn run(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.program(Path::new(arguments[0]));
        let output =
            command.args(&arguments[1..]).stdin(Stdio::null()).output().context("failed to start Wine")?;
        if !output.status.success() {
            bail!(
                "`wine {}` ended with {}:\n{}",
                arguments.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(())
    }

    /// Starts a Windows process that idles for as long as we live: while one runs, the next starts
    /// in 40 ms instead of a second. It reads from us, so it ends when we do, however that may
    /// be.
    fn keep_warm(&mut self) -> Result<()> {
        // A server of Wine's that is about to end takes its clients down with it.
        for _attempt in 0..3 {
            if self.start_resident()? {
                return Ok(());
            }
        }
        bail!("Wine does not start; try `rm -r {}`", self.prefix.display())
    }

    /// Returns whether it has come so far as to say something.
    fn start_resident(&mut self) -> Result<bool> {
        let mut command = self.program(Path::new("cmd"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let resident = self.resident.insert(command.spawn().context("failed to start Wine")?);
        let banner = resident.stdout.as_mut().expect("stdout is piped").read(&mut [0]);
        Ok(matches!(banner, Ok(1)))
    }

    fn add_random_numbers(&self, folder: &Path) -> Result<()> {
        let library = self.prefix.join("drive_c/windows/system32/bcryptprimitives.dll");
        if library.exists() {
            return Ok(());
        }
        let source = folder.join("bcryptprimitives.c");
        std::fs::write(&source, RANDOM_SOURCE)?;
        let mut command = Command::new(LINKER);
        command.args(["-shared", "-O2", "-s", "-o"]).arg(&library).arg(&source).arg("-ladvapi32");
        let output = command.output().with_context(|| format!("failed to start {LINKER}"))?;
        if !output.status.success() {
            bail!("failed to build {}:\n{}", library.display(), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }
}

impl Drop for Wine {
    fn drop(&mut self) {
        if let Some(mut resident) = self.resident.take() {
            // End of input ends it. Waiting also closes our end of its input.
            let _ = resident.wait();
        }
    }
}

/// The first CPU we may use. Wine answers every call by a switch to its server process: on one CPU
/// that is quick, and it does not vary with where the scheduler puts the two.
fn first_cpu() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed =
        status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or("0").trim();
    allowed.split([',', '-']).next().unwrap_or("0").to_owned()
}
