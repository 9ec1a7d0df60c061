//! Times as clients write them: RFC 3339, any offset, years 0001 to 9999, any number of fraction digits.
//!
//! The library's own parser stops at 9999-12-30 and at nine digits.

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

pub const NO_TIME: &str = "must be an RFC 3339 time, for example 2026-11-22T12:00:00Z";

/// Unix milliseconds, rounded up; years before 1970 are negative. Transactions carry whole milliseconds, so
/// exactly those at or after 12.001 are at or after 12.0005.
///
/// # Errors
/// [`NO_TIME`].
pub fn read_unix_ms(text: &str) -> Result<i64, String> {
    let (ms, has_more) = read(text).ok_or_else(|| NO_TIME.to_owned())?;
    Ok(ms + i64::from(has_more))
}

/// Unix milliseconds, rounded down: the millisecond in which the time lies.
///
/// # Errors
/// [`NO_TIME`].
pub fn read_unix_ms_down(text: &str) -> Result<i64, String> {
    read(text).map(|(ms, _)| ms).ok_or_else(|| NO_TIME.to_owned())
}

/// The whole milliseconds, and whether the time is later than them.
fn read(text: &str) -> Option<(i64, bool)> {
    let bytes = text.as_bytes();
    let (date_time, rest) = bytes.split_first_chunk::<19>()?;
    let has_marks = [4, 7].iter().all(|at| date_time[*at] == b'-')
        && [13, 16].iter().all(|at| date_time[*at] == b':')
        && matches!(date_time[10], b'T' | b't');
    if !has_marks {
        return None;
    }
    let (year, month, day) =
        (digits(&date_time[0..4])?, digits(&date_time[5..7])?, digits(&date_time[8..10])?);
    let (hour, minute, second) =
        (digits(&date_time[11..13])?, digits(&date_time[14..16])?, digits(&date_time[17..19])?);
    let is_date = year >= 1 && (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    if !is_date || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (fraction_ms, has_more, offset) = read_fraction(rest)?;
    let offset_minutes = read_offset(offset)?;
    let of_day = ((hour * 60 + minute - offset_minutes) * 60 + second) * 1_000;
    let ms = days_since_1970(year, month, day) * DAY_MS + of_day;
    // A leap second is the last second of a month in UTC. Unix time has none and counts the next second.
    if second == 60 && !is_start_of_month(ms, year, month) {
        return None;
    }
    Some((ms + fraction_ms, has_more))
}

/// The whole milliseconds of a fraction, whether there is more of it, and the rest of the text.
fn read_fraction(rest: &[u8]) -> Option<(i64, bool, &[u8])> {
    let Some(fraction) = rest.strip_prefix(b".") else { return Some((0, false, rest)) };
    let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let (fraction, rest) = fraction.split_at(length);
    let digit_at = |at: usize| fraction.get(at).map_or(0, |byte| i64::from(byte - b'0'));
    let ms = digit_at(0) * 100 + digit_at(1) * 10 + digit_at(2);
    let has_more = fraction.iter().skip(3).any(|byte| *byte != b'0');
    Some((ms, has_more, rest))
}

fn read_offset(text: &[u8]) -> Option<i64> {
    match text {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), hour_tens, hour_ones, b':', minute_tens, minute_ones] => {
            let (hours, minutes) =
                (digits(&[*hour_tens, *hour_ones])?, digits(&[*minute_tens, *minute_ones])?);
            let east = hours * 60 + minutes;
            let is_offset = hours <= 23 && minutes <= 59;
            is_offset.then_some(if *sign == b'+' { east } else { -east })
        }
        _ => None,
    }
}

fn digits(text: &[u8]) -> Option<i64> {
    let is_number = text.iter().all(u8::is_ascii_digit);
    is_number.then(|| text.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
}

fn days_in(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days in the proleptic Gregorian calendar. Years are counted from March, so that the leap day is the last
/// of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days from 0000-03-01 to 1970-01-01; months from March on have 153 days in every five.
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Whether a month of UTC begins at `ms`: this one or the next. An offset shifts a time by less than a month.
fn is_start_of_month(ms: i64, year: i64, month: i64) -> bool {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    [(year, month), (next_year, next_month)]
        .into_iter()
        .any(|(year, month)| days_since_1970(year, month, 1) * DAY_MS == ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_and_round_up_to_what_a_transaction_can_have() {
        for (text, ms) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:00:00.001Z", 1),
            ("1970-01-01T00:00:00.0011Z", 2),
            ("1970-01-01T00:00:00.5Z", 500),
            ("1970-01-01T01:00:00+01:00", 0),
            ("1970-01-01t00:00:01z", 1000),
            ("1970-01-01T00:00:00-00:00", 0),
            ("1969-12-31T00:01:00-23:59", 0),
            ("1970-01-01T00:00:00.000000000001Z", 1),
            ("1970-01-01T00:00:00.999000000000000000000000000000Z", 999),
            ("1970-01-01T00:00:00.999999999999Z", 1000),
            ("2026-11-22T12:00:00Z", 1_795_348_800_000),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000),
            ("9999-12-31T23:59:59.999-23:59", 253_402_387_139_999),
            ("0001-01-01T00:00:00Z", -62_135_596_800_000),
            ("0001-01-01T00:00:00+23:59", -62_135_683_140_000),
            // A leap second, in UTC and as California saw it.
            ("1990-12-31T23:59:60Z", 662_688_000_000),
            ("1990-12-31T15:59:60-08:00", 662_688_000_000),
            ("2016-12-31T23:59:60.5Z", 1_483_228_800_500),
        ] {
            assert_eq!(read_unix_ms(text), Ok(ms), "{text}");
        }
        for text in [
            "",
            "0",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00,5Z",
            "1970-01-01T00:00:00Z[UTC]",
            "1970-01-01T00:00:00+0100",
            "1970-01-01T00:00:00+01",
            "1970-01-01T00:00:00+24:00",
            "1970-01-01T00:00:00+01:60",
            "1970-01-01T01:00:00 01:00",
            "1970-01-01 00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:60:00Z",
            "1970-01-01T00:00:61Z",
            "1970-01-01T00:00:60Z",
            "1990-12-30T23:59:60Z",
            "1970-02-30T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "1970-00-01T00:00:00Z",
            "1970-01-00T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "0000-12-31T23:59:59Z",
            "10000-01-01T00:00:00Z",
            "-01970-01-01T00:00:00Z",
            "+1970-01-01T00:00:00Z",
            "1970-01-01T00:00:00Z ",
            "１970-01-01T00:00:00Z",
        ] {
            assert!(read_unix_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_time_lies_in_the_millisecond_below_it() {
        for (text, ms) in [
            ("1970-01-01T00:00:00.0019Z", 1),
            ("1970-01-01T00:00:00.999999Z", 999),
            ("1969-12-31T23:59:59.9999Z", -1),
            ("1970-01-01T00:00:00.002Z", 2),
        ] {
            assert_eq!(read_unix_ms_down(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn every_day_of_the_calendar_follows_the_one_before() {
        let mut expected = days_since_1970(1, 1, 1);
        for year in 1..=9999 {
            for month in 1..=12 {
                assert_eq!(days_since_1970(year, month, 1), expected, "{year}-{month}");
                expected += days_in(year, month);
            }
        }
    }
}
