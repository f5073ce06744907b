//! Whether now is within the hours of an environment.

use jiff::Timestamp;
use jiff::civil::Weekday;
use jiff::tz::TimeZone;
use squall_experiments::policy::{Day, Hours};

/// Whether `now_us` is within, and what time it is there, in words; none where the zone is not known on this machine.
pub(super) fn within(hours: &Hours, now_us: i64) -> Option<(bool, String)> {
    let zone = TimeZone::get(&hours.zone).ok()?;
    let now = Timestamp::from_microsecond(now_us).ok()?.to_zoned(zone);
    let minute = now.hour().unsigned_abs() as u16 * 60 + now.minute().unsigned_abs() as u16;
    let is_day = hours.days.iter().any(|day| weekday(*day) == now.weekday());
    let is_time = (hours.from.minutes()..hours.to.minutes()).contains(&minute);
    let said = now.strftime("%a %H:%M %Z").to_string();
    Some((is_day && is_time, said))
}

const fn weekday(day: Day) -> Weekday {
    match day {
        Day::Mon => Weekday::Monday,
        Day::Tue => Weekday::Tuesday,
        Day::Wed => Weekday::Wednesday,
        Day::Thu => Weekday::Thursday,
        Day::Fri => Weekday::Friday,
        Day::Sat => Weekday::Saturday,
        Day::Sun => Weekday::Sunday,
    }
}
