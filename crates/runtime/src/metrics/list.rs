//! The list of a program's metrics in `docs/metrics.md`, as the program makes them.

use std::path::Path;
use std::{env, fs, io};

use prometheus::core::Collector;

/// Where the list is.
const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
/// With this in the environment [`keep`] writes.
const WRITE: &str = "NOTRACK_WRITE_METRICS";
const END: &str = "<!-- end -->\n";

/// A metric without its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// What it tells, and in which unit.
    pub help: String,
}

/// What a collector makes.
pub(super) fn describe(metric: &impl Collector) -> Vec<Described> {
    // A family without values has its type all the same.
    let families = metric.collect();
    let described = metric.desc().into_iter().zip(families).map(|(desc, family)| Described {
        name: desc.fq_name.clone(),
        kind: format!("{:?}", family.get_field_type()).to_lowercase(),
        labels: desc.variable_labels.clone(),
        help: desc.help.clone(),
    });
    described.collect()
}

/// For a program's test: fails where its part of `docs/metrics.md` is not what it makes. `make generate` writes it.
pub fn keep(program: &str, made: &[Described]) -> io::Result<()> {
    let write = env::var_os(WRITE).is_some();
    keep_in(Path::new(FILE), program, made, write)
}

fn keep_in(file: &Path, program: &str, made: &[Described], write: bool) -> io::Result<()> {
    let begin = format!("<!-- {program}: generated -->\n");
    let text = fs::read_to_string(file)?;
    let parts = text.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(END)?)));
    let Some((before, (old, after))) = parts else {
        return Err(io::Error::other(format!("{} has no line {}", file.display(), begin.trim())));
    };
    let new = table(made);
    match write {
        true => fs::write(file, format!("{before}{begin}{new}{END}{after}")),
        false if old == new => Ok(()),
        false => {
            let message =
                format!("{} differs from what {program} makes: run `make generate`", file.display());
            Err(io::Error::other(message))
        }
    }
}

/// In Markdown. Blank lines keep the markers, which are HTML, from taking it for theirs.
fn table(made: &[Described]) -> String {
    let mut made = made.to_vec();
    made.sort_by(|one, other| one.name.cmp(&other.name));
    let rows = made.iter().map(|metric| {
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let help = metric.help.replace('|', "\\|");
        format!("| `{}` | {} | {} | {help} |\n", metric.name, metric.kind, labels.join(", "))
    });
    let rows: String = rows.collect();
    format!("\n| metric | type | labels | tells |\n| --- | --- | --- | --- |\n{rows}\n")
}

#[cfg(test)]
// clippy exempts tests, but not the functions that they call.
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::metrics::Maker;

    fn made() -> Vec<Described> {
        let make = Maker::default();
        make.seconds("it_seconds", "How long, in seconds.").unwrap();
        make.counters("things_total", "Things | items.", &["kind", "result"]).unwrap();
        make.gauge("filling", "How many.").unwrap();
        make.made()
    }

    #[test]
    fn what_has_no_value_yet_is_described() {
        let made = made();
        let short: Vec<_> = made.iter().map(|metric| (metric.name.as_str(), metric.kind.as_str())).collect();
        assert_eq!(short, [("it_seconds", "histogram"), ("things_total", "counter"), ("filling", "gauge")]);
        assert_eq!(made[1].labels, ["kind", "result"]);
        assert!(table(&made).contains("| `things_total` | counter | `kind`, `result` | Things \\| items. |"));
    }

    #[test]
    fn drift_is_noticed_and_mended() {
        let file = env::temp_dir().join(format!("notrack-metrics-{}.md", std::process::id()));
        fs::write(&file, "# Metrics\n\n<!-- it: generated -->\nold\n<!-- end -->\n\nThe rest.\n").unwrap();
        let drifted = keep_in(&file, "it", &made(), false).unwrap_err().to_string();
        let unmarked = keep_in(&file, "other", &made(), true).unwrap_err().to_string();
        keep_in(&file, "it", &made(), true).unwrap();
        let written = keep_in(&file, "it", &made(), false);
        let text = fs::read_to_string(&file).unwrap();
        fs::remove_file(&file).unwrap();
        assert!(drifted.contains("make generate"), "{drifted}");
        assert!(unmarked.contains("has no line <!-- other: generated -->"), "{unmarked}");
        written.unwrap();
        assert!(text.starts_with("# Metrics\n") && text.ends_with("\n\nThe rest.\n"), "{text}");
    }
}
