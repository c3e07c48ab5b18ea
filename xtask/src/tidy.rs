pub(crate) fn complaints(_: &crate::workspace::Workspace) -> anyhow::Result<Vec<String>> {
    Ok(vec![])
}
