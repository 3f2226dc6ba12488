//! `--set-zone`: applies the lines of a load file to another zone than they name.

use super::{
    error::CliError,
    settings::{Command, Settings},
};
use flowgate_model::{Flows, field, put};

/// Applies a command to this zone. A zone of one direction remains one of that direction.
///
/// # Errors
/// Returns an error for a command that applies to all zones.
pub(crate) fn apply(settings: &mut Settings, zone: u16) -> Result<(), CliError> {
    match settings.command {
        Command::Flush => return Err(CliError::FlushWithZone),
        Command::Delete | Command::Update => {
            let selection = &mut settings.selection;
            let directions = [&mut selection.original.zone, &mut selection.reply.zone];
            let mut one_direction = false;
            for direction in directions.into_iter().filter(|direction| direction.is_some()) {
                *direction = Some(zone);
                one_direction = true;
            }
            if !one_direction || selection.zone.is_some() {
                selection.zone = Some(zone);
            }
        }
        _ => set_rows(&mut settings.template, zone),
    }
    Ok(())
}

/// Moves the flows of a table to this zone.
fn set_rows(flows: &mut Flows, zone: u16) {
    let zones = flows.zones.get_or_insert_default();
    for (row, has) in flows.has.iter_mut().enumerate() {
        if *has & field::ZONES == 0 {
            *has |= field::ZONE;
        }
        for (bit, column) in [
            (field::ZONE, &mut zones.zone),
            (field::ORIGINAL_ZONE, &mut zones.original),
            (field::REPLY_ZONE, &mut zones.reply),
        ] {
            if *has & bit != 0 {
                put(column, row, zone);
            }
        }
    }
    // A column that exists has a value for each row.
    let rows = flows.length as usize;
    for column in [&mut zones.zone, &mut zones.original, &mut zones.reply] {
        if !column.is_empty() {
            column.resize(rows, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flowgate_model::Zones;

    #[test]
    fn zones_of_one_direction_stay_such() {
        let mut flows = Flows {
            length: 4,
            has: vec![0, field::ZONE, field::ORIGINAL_ZONE, field::REPLY_ZONE],
            zones: Some(Zones { zone: vec![0, 5], original: vec![0, 0, 6], reply: vec![0, 0, 0, 7] }),
            ..Flows::default()
        };
        set_rows(&mut flows, 9);
        assert_eq!(flows.has, [field::ZONE, field::ZONE, field::ORIGINAL_ZONE, field::REPLY_ZONE]);
        let zones = flows.zones.unwrap();
        assert_eq!(zones.zone, [9, 9, 0, 0]);
        assert_eq!(zones.original, [0, 0, 9, 0]);
        assert_eq!(zones.reply, [0, 0, 0, 9]);
    }
}
