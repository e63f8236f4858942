//! All rows, a module for each group.

mod dgram;
mod fair;
mod host;
mod iface;
mod nat;
mod scale;
mod stream;
mod tap;
mod vhost;

use crate::row::Row;

/// All rows, in the order in which they are told.
pub fn all() -> Vec<Row> {
    [
        tap::rows(),
        dgram::rows(),
        stream::rows(),
        scale::rows(),
        fair::rows(),
        host::rows(),
        iface::rows(),
        nat::rows(),
        vhost::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The rows of these groups and of these names; all when nothing is named.
///
/// # Errors
/// The names that nothing has.
pub fn choose(wanted: &[String]) -> Result<Vec<Row>, Vec<String>> {
    let matches = |row: &Row, name: &str| row.name == name || row.group.name() == name;
    let mut rows = all();
    let unknown: Vec<String> =
        wanted.iter().filter(|name| !rows.iter().any(|row| matches(row, name))).cloned().collect();
    if !unknown.is_empty() {
        return Err(unknown);
    }
    rows.retain(|row| wanted.is_empty() || wanted.iter().any(|name| matches(row, name)));
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_well_formed() {
        let rows = all();
        for row in &rows {
            assert!(row.name.starts_with(row.group.name()), "{}", row.name);
            assert_eq!(rows.iter().filter(|other| other.name == row.name).count(), 1, "{}", row.name);
            let has = |name| row.contestants.iter().filter(|one| one.name == name).count() == 1;
            assert!(row.contestants.iter().all(|one| has(one.name)), "{}", row.name);
            for target in &row.targets {
                assert!(target.figure < row.figures.len(), "{}", row.name);
                assert!(has(target.of) && target.to.is_none_or(has), "{}: {target:?}", row.name);
            }
        }
    }

    #[test]
    fn rows_are_chosen_by_group_and_by_name() {
        let names = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            choose(&wanted).map(|rows| rows.iter().map(|row| row.name).collect::<Vec<_>>())
        };

        assert_eq!(names(&["tap-64", "fair"]), Ok(vec!["tap-64", "fair-flood"]));
        assert_eq!(names(&[]).map(|rows| rows.len()), Ok(all().len()));
        assert_eq!(names(&["tap", "tpa", "dgram-65"]), Err(vec!["tpa".into(), "dgram-65".into()]));
    }
}
