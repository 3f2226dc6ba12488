//! Local time, from the offsets that the host provides: a plugin has neither a clock nor a time zone of its own.

use crate::{Page, Setup, bindings::flowgate::conntrack::setup::UtcOffset};

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// The host's time zone.
#[derive(Clone, Debug, Default)]
pub struct TimeZone {
    /// Seconds since 1970, and the seconds that local time is ahead of UTC from then on; ascending.
    offsets: Vec<(i64, i32)>,
}

/// A point in time in calendar and wall-clock terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// Year of the Gregorian calendar.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 Sunday to 6 Saturday.
    pub weekday: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

impl TimeZone {
    /// Returns the time zone of a setup; UTC if it has none.
    #[must_use]
    pub fn of(setup: &Setup) -> Self {
        TimeZone { offsets: setup.offsets.iter().map(|&UtcOffset { since, offset }| (since, offset)).collect() }
    }

    /// Returns the local time at `nanoseconds` since 1970.
    #[must_use]
    pub fn local(&self, nanoseconds: u64) -> LocalTime {
        let seconds = (nanoseconds / SECOND) as i64;
        let later = self.offsets.partition_point(|&(since, _)| since <= seconds);
        let offset = self.offsets.get(later.saturating_sub(1)).map_or(0, |&(_, offset)| offset);
        LocalTime::from_seconds(seconds + i64::from(offset))
    }
}

impl LocalTime {
    /// Returns calendar day and time of `seconds` since 1970.
    fn from_seconds(seconds: i64) -> Self {
        let (days, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        // Years that begin in March, in eras of 400 years, so that the leap day is the last day of its year and era.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let from_march = (5 * day_of_year + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        LocalTime {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: month as u8,
            day: (day_of_year - (153 * from_march + 2) / 5 + 1) as u8,
            // 1970 began on a Thursday.
            weekday: (days + 4).rem_euclid(7) as u8,
            hour: (clock / 3_600) as u8,
            minute: (clock / 60 % 60) as u8,
            second: (clock % 60) as u8,
        }
    }

    /// Writes the time as `ctime` does, without its newline: `Tue Nov  3 00:26:41 2026`.
    pub fn ctime(&self, page: &mut Page) {
        const WEEKDAYS: [&[u8; 4]; 7] = [b"Sun ", b"Mon ", b"Tue ", b"Wed ", b"Thu ", b"Fri ", b"Sat "];
        const MONTHS: [&[u8; 4]; 12] = [
            b"Jan ", b"Feb ", b"Mar ", b"Apr ", b"May ", b"Jun ", b"Jul ", b"Aug ", b"Sep ", b"Oct ", b"Nov ", b"Dec ",
        ];
        page.text(WEEKDAYS.get(usize::from(self.weekday)).copied().unwrap_or(b"??? "));
        page.text(MONTHS.get(usize::from(self.month).wrapping_sub(1)).copied().unwrap_or(b"??? "));
        if self.day < 10 {
            page.byte(b' ');
        }
        page.number(self.day.into());
        page.byte(b' ');
        page.zero_padded(self.hour.into(), 2);
        page.byte(b':');
        page.zero_padded(self.minute.into(), 2);
        page.byte(b':');
        page.zero_padded(self.second.into(), 2);
        page.byte(b' ');
        page.number(self.year.unsigned_abs());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ctime(zone: &TimeZone, seconds: u64) -> String {
        let mut page = Page::default();
        zone.local(seconds * SECOND + 999_999_999).ctime(&mut page);
        String::from_utf8(page.into_bytes()).unwrap()
    }

    #[test]
    fn calendar() {
        let utc = TimeZone::default();
        assert_eq!(ctime(&utc, 0), "Thu Jan  1 00:00:00 1970");
        assert_eq!(ctime(&utc, 951_782_399), "Mon Feb 28 23:59:59 2000");
        assert_eq!(ctime(&utc, 951_782_400), "Tue Feb 29 00:00:00 2000");
        assert_eq!(ctime(&utc, 951_868_800), "Wed Mar  1 00:00:00 2000");
        assert_eq!(ctime(&utc, 4_102_444_799), "Thu Dec 31 23:59:59 2099");
        assert_eq!(ctime(&utc, 4_107_542_400), "Mon Mar  1 00:00:00 2100");
        assert_eq!(ctime(&utc, 1_795_480_001), "Tue Nov 24 00:26:41 2026");
    }

    #[test]
    fn offsets_change_when_they_say() {
        // Central European time: summer time ended on 2026-10-25 at 01:00 UTC.
        let zone = TimeZone { offsets: vec![(1_774_746_000, 7_200), (1_792_890_000, 3_600)] };
        assert_eq!(ctime(&zone, 1_792_889_999), "Sun Oct 25 02:59:59 2026");
        assert_eq!(ctime(&zone, 1_792_890_000), "Sun Oct 25 02:00:00 2026");
        assert_eq!(ctime(&zone, 0), "Thu Jan  1 02:00:00 1970");
        let west = TimeZone { offsets: vec![(i64::MIN, -18_000)] };
        assert_eq!(ctime(&west, 0), "Wed Dec 31 19:00:00 1969");
    }
}
