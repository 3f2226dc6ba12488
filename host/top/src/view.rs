//! Draws the screen in any size.

use ratatui::{
    Frame,
    layout::{Constraint, Flex, Layout, Rect},
    style::{Modifier, Style},
    text::Line,
    widgets::{Block, Clear, Paragraph, Wrap},
};

use super::{
    cells::count,
    frame, group_frame,
    model::Origin,
    row::FlowRow,
    snapshot::Snapshot,
    ui::{KEYS, Mode, Ui},
};
use flowgate_pipeline::stats::StageStats;

/// The parts of the screen other than the flows.
#[derive(Clone, Debug, Default)]
pub struct ScreenInfo {
    /// Description of the origin of the flows.
    pub title: String,
    /// The plugins.
    pub stages: Vec<StageStats>,
    /// The last warning.
    pub message: Option<String>,
}

/// Returns the lines above the table.
fn head(snapshot: &Snapshot, ui: &Ui, around: &ScreenInfo, width: usize) -> Vec<String> {
    let paused = if ui.paused.is_some() { " [paused]" } else { "" };
    let mut lines = vec![format!("flowgate top {}{paused}: {}", around.title, frame::summary(snapshot))];
    let protocols = frame::protocols(snapshot);
    if !protocols.is_empty() {
        lines.push(protocols);
    }
    lines.extend(frame::history(snapshot, width));
    lines.extend(around.stages.iter().map(frame::plugin));
    if snapshot.accounting == Some(false) && ui.origin == Origin::Kernel {
        lines.push(frame::NO_ACCOUNTING.into());
    }
    if let Some(message) = &around.message {
        lines.push(message.clone());
    }
    lines
}

/// Returns the line below it.
fn foot(snapshot: &Snapshot, ui: &Ui) -> String {
    match (&ui.mode, &ui.note) {
        (Mode::Filter, _) => format!("filter: {}_", ui.filter),
        (Mode::Condition, None) => format!("where: {}_", ui.condition),
        (Mode::Condition, Some(note)) => format!("where: {}_  {note}", ui.condition),
        (_, Some(note)) => note.clone(),
        _ => {
            let filter = if ui.filter.is_empty() { String::new() } else { format!("filter: {}  ", ui.filter) };
            let condition = if ui.condition.is_empty() { String::new() } else { format!("where: {}  ", ui.condition) };
            if ui.groups {
                return format!(
                    "{condition}{filter}{} groups  ?: help  /: filter  w: where  left right: sort  space: pause  q: quit",
                    count(snapshot.matching)
                );
            }
            format!(
                "{condition}{filter}{} of {} flows  ?: help  /: filter  left right: sort  space: pause  d: delete  q: quit",
                count(snapshot.matching),
                count(snapshot.total().flows)
            )
        }
    }
}

/// Draws everything.
pub fn draw(frame: &mut Frame<'_>, snapshot: &Snapshot, ui: &mut Ui, around: &ScreenInfo) {
    let area = frame.area();
    if area.is_empty() {
        return;
    }
    let head = head(snapshot, ui, around, area.width.into());
    // The table has three lines before the header has its second one.
    let room = usize::from(area.height.saturating_sub(4)).max(1);
    let height = u16::try_from(head.len().min(room)).unwrap_or(u16::MAX);
    let parts = [Constraint::Length(height), Constraint::Fill(1), Constraint::Length(u16::from(area.height > 2))];
    let [top, middle, bottom] = Layout::vertical(parts).areas(area);
    let head: Vec<Line<'_>> = head.into_iter().map(Line::from).collect();
    frame.render_widget(Paragraph::new(head), top);
    table(frame, middle, snapshot, ui);
    let foot = Line::from(foot(snapshot, ui)).style(Style::new().add_modifier(Modifier::DIM));
    frame.render_widget(Paragraph::new(foot), bottom);
    match &ui.mode {
        Mode::Help => help(frame, area),
        Mode::Confirm(row) => confirm(frame, area, row),
        Mode::Table | Mode::Filter | Mode::Condition => {}
    }
}

fn table(frame: &mut Frame<'_>, area: Rect, snapshot: &Snapshot, ui: &mut Ui) {
    let page = usize::from(area.height.saturating_sub(1));
    ui.place(snapshot, page);
    let width = Some(area.width.into());
    let lines = match &snapshot.groups {
        Some(groups) => {
            let counted = snapshot.accounting == Some(true);
            group_frame::lines(groups, (ui.offset, page), snapshot.sort, counted, width)
        }
        None => {
            let end = (ui.offset + page).min(snapshot.rows.len());
            let rows = snapshot.rows.get(ui.offset..end).unwrap_or_default();
            frame::table(rows, snapshot.now, snapshot.sort, width)
        }
    };
    let selected = ui.selected.and_then(|(at, _)| at.checked_sub(ui.offset)).map(|at| at + 1);
    let width = usize::from(area.width);
    let styled = lines.into_iter().enumerate().map(|(at, line)| {
        // To the end of the line, so that it is highlighted completely.
        if at == 0 {
            Line::from(format!("{line:<width$}"))
                .style(Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED))
        } else if Some(at) == selected {
            Line::from(format!("{line:<width$}")).style(Style::new().add_modifier(Modifier::REVERSED))
        } else {
            Line::from(line)
        }
    });
    frame.render_widget(Paragraph::new(styled.collect::<Vec<_>>()), area);
}

/// Draws a box in the middle, no larger than the screen.
fn middle(frame: &mut Frame<'_>, area: Rect, title: &str, lines: Vec<Line<'_>>, width: u16) {
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX).saturating_add(2);
    let [row] = Layout::vertical([Constraint::Length(height.min(area.height))]).flex(Flex::Center).areas(area);
    let [place] = Layout::horizontal([Constraint::Length(width.min(area.width))]).flex(Flex::Center).areas(row);
    frame.render_widget(Clear, place);
    let text = Paragraph::new(lines).wrap(Wrap { trim: false });
    // Without enough room, the frame is left out.
    if place.height > 3 && place.width > 20 {
        frame.render_widget(text.block(Block::bordered().title(title.to_owned())), place);
    } else {
        frame.render_widget(text, place);
    }
}

fn help(frame: &mut Frame<'_>, area: Rect) {
    let lines = KEYS.iter().map(|(key, what)| Line::from(format!("{key:<19} {what}"))).collect();
    middle(frame, area, " keys (any key goes back) ", lines, 100);
}

fn confirm(frame: &mut Frame<'_>, area: Rect, row: &FlowRow) {
    let mut lines = vec![
        Line::from(format!("Delete this flow? {}", describe(row))),
        Line::from("y: delete it    any other key: keep it"),
    ];
    // Long addresses take a second line.
    if area.height > 6 {
        lines.push(Line::default());
    }
    middle(frame, area, " delete ", lines, 100);
}

/// Describes a flow briefly.
#[must_use]
pub fn describe(row: &FlowRow) -> String {
    let [source, destination] = row.ends(&row.name.original);
    format!("{} {} -> {} {}", row.protocol(), source, destination, row.state())
}
