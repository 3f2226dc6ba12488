//! Stock plugin: tables for people, CSV and TSV. `docs/OUTPUT.md` describes them.

mod delimited;
mod expectation;
mod field;
mod flow;
mod groups;
mod sheet;
mod statistics;
#[cfg(test)]
mod tests;
mod value;

use flowgate_sdk::{
    Counts, Description, ExpectationFormat, Expectations, FlowFormat, Flows, Groups, GroupsFormat, Page, Plugin, Setup,
    StatisticsFormat, time::TimeZone,
};

use flow::Shown;
use sheet::Sheet;
use value::Style;

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    Table,
    Csv,
    Tsv,
}

/// The plugin and its settings.
pub struct Table {
    output: Output,
    /// The columns of flows; empty for the usual ones.
    chosen: Vec<Shown>,
    style: Style,
    /// Names of labels by ascending bit; not cleaned.
    labels: Vec<(u16, String)>,
    sheet: Sheet,
    /// True if events have a column for their time.
    times: bool,
    /// True if flows have a column for their family.
    family: bool,
    /// True if flows have a column for their identifier.
    ids: bool,
    /// True if flows have a column for the agent of a fleet that has sent them.
    agents: bool,
    /// True if groups have bars.
    bars: bool,
    /// True once columns have been chosen.
    begun: bool,
    /// Length of the previous batch's text.
    room: usize,
}

/// The largest width of a terminal.
const WIDEST: usize = 10_000;

impl Plugin for Table {
    fn describe() -> Description {
        Description::new("table", env!("CARGO_PKG_VERSION"), "Tables for people, CSV and TSV")
            .option("output", "FORM", "table, csv or tsv", Some("table"))
            .option("columns", "NAMES", "columns of flows, with commas; without it the usual ones", None)
            .option("header", "", "print headings", Some("yes"))
            .option("width", "COLUMNS", "fit tables to this width; 0: any", Some("0"))
            .option("color", "", "colour tables", Some("no"))
            .option("human", "", "print sizes and times with units; by default in tables only", None)
            .option("bars", "", "print bars behind the measure by which groups are sorted", Some("yes"))
            .option("agent", "", "print the annotation `agent` as the first column of flows", Some("no"))
            .option("timestamp", "", "tables: print the time of each event (-o timestamp)", None)
            .option("extended", "", "tables: print the layer-3 protocol (-o extended)", None)
            .option("id", "", "tables: print the identifier of each flow (-o id)", None)
    }

    fn configure(setup: &Setup) -> Result<Self, String> {
        let output = match setup.text("output") {
            None | Some("table") => Output::Table,
            Some("csv") => Output::Csv,
            Some("tsv") => Output::Tsv,
            Some(other) => return Err(format!("option output: {other:?} is none of `table`, `csv` and `tsv`")),
        };
        let names = setup.text("columns").unwrap_or_default();
        let chosen = names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(flow::named);
        let mut chosen = chosen.collect::<Result<Vec<_>, _>>()?;
        if !chosen.is_empty() && setup.switch("agent")? {
            chosen.insert(0, Shown::agent());
        }
        let table = output == Output::Table;
        let on = |name: &str, default: bool| if setup.text(name).is_some() { setup.switch(name) } else { Ok(default) };
        Ok(Table {
            output,
            chosen,
            style: Style { human: on("human", table)?, names: table, zone: TimeZone::of(setup) },
            labels: setup.labels.iter().map(|label| (label.bit, label.name.clone())).collect(),
            sheet: Sheet {
                header: on("header", true)?,
                limit: setup.option("width")?.unwrap_or(0).min(WIDEST),
                color: on("color", false)?,
                ..Sheet::default()
            },
            times: setup.switch("timestamp")?,
            family: setup.switch("extended")?,
            ids: setup.switch("id")?,
            agents: setup.switch("agent")?,
            bars: on("bars", true)?,
            begun: false,
            room: 0,
        })
    }
}

impl FlowFormat for Table {
    fn render(&mut self, batch: &Flows) -> Vec<u8> {
        self.flows(batch)
    }

    fn finish(&mut self) -> Vec<u8> {
        self.finish_flows()
    }
}

impl ExpectationFormat for Table {
    fn render(&mut self, batch: &Expectations) -> Vec<u8> {
        let mut page = Page::default();
        self.expectations(&mut page, batch);
        page.into_bytes()
    }

    fn finish(&mut self) -> Vec<u8> {
        self.finish_expectations()
    }
}

impl StatisticsFormat for Table {
    fn render(&mut self, counts: &Counts) -> Vec<u8> {
        let mut page = Page::default();
        self.statistics(&mut page, counts);
        page.into_bytes()
    }
}

impl GroupsFormat for Table {
    fn render(&mut self, groups: &Groups) -> Vec<u8> {
        let mut page = Page::default();
        self.groups(&mut page, groups);
        page.into_bytes()
    }
}

flowgate_sdk::any_format!(Table);
