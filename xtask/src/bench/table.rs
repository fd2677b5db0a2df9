//! What was measured, as one table.

use super::engine::Engine;
use std::collections::BTreeMap;
use std::fmt::Write;

/// One thing measured with every engine.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) measured: BTreeMap<Engine, Measured>,
    /// What the project asks of itself here, in words.
    pub(crate) asked: &'static str,
    /// What this kind of KVM makes impossible, when it does.
    pub(crate) floor: Option<&'static str>,
}

/// A median, or why there is none.
pub(crate) type Measured = Result<f64, String>;

/// The table in Markdown, with a list of what failed below it.
pub(crate) fn render(rows: &[Row]) -> String {
    let mut text = String::from(
        "| what | unit | host | bubblewrap | crun | cormus | ÷ host | ÷ bubblewrap | ÷ crun | asked |\n\
         |---|---|--:|--:|--:|--:|--:|--:|--:|---|\n",
    );
    for row in rows {
        let cells: Vec<String> = Engine::ALL
            .iter()
            .map(|engine| value(row, *engine))
            .collect();
        let ratios: Vec<String> = Engine::ALL[..3]
            .iter()
            .map(|engine| ratio(row, *engine))
            .collect();
        let floor = row
            .floor
            .map(|floor| format!("; floor here: {floor}"))
            .unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {}{floor} |",
            row.what,
            row.unit,
            cells.join(" | "),
            ratios.join(" | "),
            row.asked
        );
    }
    for failure in failures(rows) {
        let _ = writeln!(text, "\nFailed: {failure}");
    }
    text
}

/// Every measurement that could not be made, with its reason; rows measured together share one.
pub(crate) fn failures(rows: &[Row]) -> Vec<String> {
    let mut failures = Vec::new();
    let mut said = BTreeMap::new();
    for row in rows {
        for (engine, measured) in &row.measured {
            if let Err(reason) = measured
                && said.insert(engine, reason) != Some(reason)
            {
                failures.push(format!("{} in {}: {reason}", row.what, engine.name()));
            }
        }
    }
    failures
}

fn value(row: &Row, engine: Engine) -> String {
    match row.measured.get(&engine) {
        Some(Ok(value)) => number(*value),
        Some(Err(_)) => "failed".to_owned(),
        None => String::new(),
    }
}

fn ratio(row: &Row, engine: Engine) -> String {
    match (row.measured.get(&Engine::Cormus), row.measured.get(&engine)) {
        (Some(Ok(cormus)), Some(Ok(other))) if *other > 0.0 => number(cormus / other),
        _ => String::new(),
    }
}

/// Three digits that matter.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The middle of what was measured; nothing, when nothing was.
pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some((values.get(middle - 1)? + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let check = |values: &[f64], expect| assert_eq!(median(&mut values.to_vec()), expect);
        check(&[], None);
        check(&[2.0], Some(2.0));
        check(&[3.0, 1.0, 2.0], Some(2.0));
        check(&[4.0, 1.0, 2.0, 3.0], Some(2.5));
    }

    #[test]
    fn rows_show_ratios_and_failures() {
        let row = Row {
            what: "start",
            unit: "ms",
            measured: BTreeMap::from([
                (Engine::Host, Ok(2.0)),
                (Engine::Crun, Err("no room".to_owned())),
                (Engine::Cormus, Ok(5.0)),
            ]),
            asked: "at most 2.5 host",
            floor: None,
        };
        let text = render(&[row]);
        assert!(
            text.contains("| start | ms | 2.00 |  | failed | 5.00 | 2.50 |  |  | at most"),
            "{text}"
        );
        assert!(text.contains("Failed: start in crun: no room"), "{text}");
    }
}
