use crate::{progress::Report, workspace::Workspace};
#[derive(clap::Args)]
pub(crate) struct Options {}
pub(crate) fn run(_: &Workspace, _: &mut Report, _: &Options) -> anyhow::Result<()> {
    Ok(())
}
