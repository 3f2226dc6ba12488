//! Plans as lines for people, and for programs: what somebody reads who signs.

use std::time::Duration;

use jiff::Timestamp;

pub(super) use super::ask::columns;
use super::{FleetError, json_line, table};
use flowgate_base::{text::clean, units::show_time};
use flowgate_fleet::{
    plan::{Action, Plan, Share},
    table::Form,
};
use flowgate_model::{Flows, field, status};

/// Returns a plan as lines.
///
/// # Errors
/// [`FleetError::Question`] if its words are none that an agent would take; then nobody knows what is signed.
pub(super) fn lines(plan: &Plan, json: bool) -> Result<Vec<String>, FleetError> {
    let settings = table::parse(&plan.words, table::command(plan.action), Form::Text).map_err(FleetError::Question)?;
    let sets = sets(&settings.template);
    let left = Duration::from_secs(plan.expires.saturating_sub(flowgate_fleet::plan::now()));
    if json {
        let mut head = serde_json::json!({
            "plan": plan.id,
            "action": plan.action,
            "words": plan.words,
            "made": plan.made,
            "expires": plan.expires,
            "allowance": plan.allowance,
            "absent_later": plan.absent_later,
        });
        if plan.action == Action::Update {
            head["sets"] = sets.into();
        }
        let would = format!("would_{}", plan.action.word());
        let line = |share: &Share| {
            json_line(&serde_json::json!({
                "agent": share.name, "id": share.id, would.as_str(): share.touched.count, "hash": share.touched.hash,
            }))
        };
        return Ok(std::iter::once(json_line(&head)).chain(plan.agents.iter().map(line)).collect());
    }
    let words: Vec<String> = plan.words.iter().map(|word| quoted(word)).collect();
    let total: u128 = plan.agents.iter().map(|share| u128::from(share.touched.count)).sum();
    let mut head = format!(
        "plan {}: {} {total} flows of {} agents, and {} % more, within {}, by {}",
        clean(&plan.id),
        plan.action.word(),
        plan.agents.len(),
        plan.allowance,
        show_time(left),
        words.join(" ")
    );
    if plan.action == Action::Update {
        head += &format!("\nsets {}", sets.join(", "));
    }
    if plan.absent_later {
        head += &format!("\nagents that are absent do it when they connect before {}", time(plan.expires));
    }
    let rows = plan.agents.iter().map(|share| vec![share.name.to_string(), share.touched.count.to_string()]);
    Ok(std::iter::once(head).chain(columns(&rows.collect::<Vec<_>>())).collect())
}

/// Returns a time in seconds since 1970 as text.
pub(super) fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    time.map_or_else(|| seconds.to_string(), |time| time.to_string())
}

/// Returns what a template sets.
pub(super) fn sets(template: &Flows) -> Vec<String> {
    let has = template.has.first().copied().unwrap_or_default();
    let with = |column: &[u32]| column.first().copied().unwrap_or_default();
    let mut sets = Vec::new();
    if has & field::MARK != 0 {
        let mask = template.rare.as_ref().filter(|_| has & field::MARK_MASK != 0).map(|rare| with(&rare.mark_mask));
        let mask = mask.filter(|&mask| mask != u32::MAX).map(|mask| format!("/{mask:#x}")).unwrap_or_default();
        sets.push(format!("mark {:#x}{mask}", with(&template.mark)));
    }
    if has & field::TIMEOUT != 0 {
        sets.push(format!("timeout {} s", with(&template.timeout)));
    }
    if has & field::STATUS != 0 {
        let bits = with(&template.status);
        let names = status::NAMES.iter().filter(|(bit, _)| bits & bit != 0);
        sets.push(format!("status {}", names.map(|&(_, name)| name).collect::<Vec<_>>().join(",")));
    }
    for (fields, word) in [
        (field::STATE, "state"),
        (field::LABELS, "labels"),
        (field::HELPER, "helper"),
        (field::ORIGINAL_SEQUENCE | field::REPLY_SEQUENCE, "sequence adjustment"),
        (field::SYNPROXY, "SYN proxy"),
        (field::SOURCE_NAT | field::DESTINATION_NAT, "address translation"),
        (field::ORIGINAL_WINDOW_SCALE | field::REPLY_WINDOW_SCALE, "window scale"),
        (field::ORIGINAL_VTAG | field::REPLY_VTAG, "verification tags"),
    ] {
        if has & fields != 0 {
            sets.push(word.to_owned());
        }
    }
    sets
}

/// Returns a word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:,=@%+".contains(&byte);
    match !word.is_empty() && word.bytes().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", clean(word).replace('\'', "'\\''")),
    }
}
