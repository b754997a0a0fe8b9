//! What any rendered table is.

use notrack_core::nf::Table;

/// What nft and the kernel ask of a table.
pub fn is_well_formed(table: &Table) -> Result<(), String> {
    let name_is_good = |name: &str| {
        name.len() < 256 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    let names = table.chains.keys().chain(table.sets.keys()).chain(&table.counters);
    if let Some(name) = names.into_iter().find(|name| !name_is_good(name)) {
        return Err(format!("bad name {name:?}"));
    }
    let text = table.to_string();
    if text.chars().any(|letter| letter.is_control() && letter != '\n' && letter != '\t') || !text.is_ascii()
    {
        return Err("a letter that no ruleset has".to_owned());
    }
    if !text.matches('"').count().is_multiple_of(2) || text.matches('{').count() != text.matches('}').count()
    {
        return Err("quotes or braces that do not end".to_owned());
    }
    Ok(())
}
