//! Timers, and the clock that a test moves.

use std::time::Duration;

use crate::testing::{Host, Limits};
use crate::*;

struct Clock;

impl Plugin for Clock {
    fn on_message(_: ClientId, _: Message) {
        reply(now_ms().to_string()).expect("it is here");
    }
}

impl TimerHandler for Clock {
    fn on_timer(name: &str) {
        log(Level::Info, name);
        if name == "again" {
            set_timer("again", SECOND, None, TimerScope::Node).expect("set anew");
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);

fn fired(host: &Host<Clock>, time: Duration) -> Vec<String> {
    host.advance(time);
    host.logs().into_iter().map(|(_, name)| name).collect()
}

#[test]
fn timers_fire_in_order_when_time_passes() {
    let host = Host::of::<Clock>();
    let set = |name: &str, after: u32, every: Option<u32>| {
        let every = every.map(|every| SECOND * every);
        host.run(|| set_timer(name, SECOND * after, every, TimerScope::Node))
    };
    set("c", 5, None).expect("set");
    set("a", 1, Some(2)).expect("set");
    set("b", 3, None).expect("set");
    assert_eq!(fired(&host, SECOND * 4), ["a", "a", "b"]);
    set("c", 10, None).expect("set anew");
    assert_eq!(fired(&host, SECOND * 3), ["a", "a"]);
    let cancel = |name| host.run(|| cancel_timer(name, TimerScope::Node));
    assert_eq!(cancel("a"), Ok(true));
    assert_eq!(cancel("b"), Ok(false));
    assert_eq!(fired(&host, SECOND * 7), ["c"]);
    set("again", 1, None).expect("set");
    assert_eq!(fired(&host, SECOND * 3), ["again"; 3]);
}

#[test]
fn timers_have_limits() {
    let limits = Limits {
        timers: 1,
        ..Limits::default()
    };
    let host = Host::of::<Clock>().limits(limits);
    let set = |name: &str, after: Duration, every| {
        let set = host.run(|| set_timer(name, after, every, TimerScope::Cluster));
        set.map_err(|error| error.code)
    };
    let wrong = Err(ErrorCode::InvalidArgument);
    assert_eq!(set("", SECOND, None), wrong);
    assert_eq!(set("a", Duration::from_micros(9_999), None), wrong);
    assert_eq!(set("a", SECOND, Some(Duration::MAX)), wrong);
    assert_eq!(set("a", SECOND, None), Ok(()));
    assert_eq!(set("a", SECOND, Some(SECOND)), Ok(()));
    assert_eq!(set("b", SECOND, None), Err(ErrorCode::LimitExceeded));
}

/// An auction's last minute: what is too early, and what is too late.
#[test]
fn the_clock_stands_still_until_a_test_moves_it() {
    let host = Host::of::<Clock>();
    let ada = host.connect("/").expect("let in");
    let now = || {
        ada.say("what time is it?");
        let texts: Vec<u64> = ada.received().iter().map(number).collect();
        texts[0]
    };
    let begin = now();
    assert_eq!(begin, 1_767_225_600_000, "2026-01-01 00:00 UTC");
    assert_eq!(now(), begin);
    host.advance(SECOND * 3 / 2);
    assert_eq!(now(), begin + 1_500);
    assert_eq!(host.run(now_ms), begin + 1_500, "a test's own calls, too");
    let other = Host::new();
    assert_eq!(other.run(now_ms), begin, "each host has its own");
}

/// The plugin's own clock is that at which its timer fires, not that to which a test moves it.
struct Minutes;

impl TimerHandler for Minutes {
    fn on_timer(_: &str) {
        log(Level::Info, &(now_ms() / 60_000 % 60).to_string());
    }
}

#[test]
fn a_timer_fires_at_its_own_time() {
    let host = Host::of::<Minutes>();
    let minute = SECOND * 60;
    host.run(|| set_timer("m", minute, Some(minute), TimerScope::Node))
        .expect("set");
    host.advance(minute * 3 + SECOND);
    let told: Vec<_> = host.logs().into_iter().map(|(_, line)| line).collect();
    assert_eq!(told, ["1", "2", "3"]);
}

fn number(message: &Message) -> u64 {
    let text = message.as_text().expect("a text");
    text.parse().expect("a number")
}
