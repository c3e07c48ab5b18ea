use crate::{progress::Report, workspace::Workspace};
pub(crate) fn run(_: &Workspace, _: &mut Report) -> anyhow::Result<()> {
    Ok(())
}
