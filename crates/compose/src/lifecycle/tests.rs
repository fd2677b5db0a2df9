use super::*;
use crate::values::Period;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[test]
fn the_table_has_one_answer_for_each_question() {
    let questions: BTreeSet<(State, Event)> = TRANSITIONS
        .iter()
        .map(|(from, on, _)| (*from, *on))
        .collect();
    assert_eq!(questions.len(), TRANSITIONS.len());
}

#[test]
fn every_state_can_be_reached_and_left() {
    let mut reached = BTreeSet::from([State::Inactive]);
    for _ in State::ALL {
        let more = TRANSITIONS
            .iter()
            .filter(|(from, _, _)| reached.contains(from));
        reached.extend(more.map(|(_, _, to)| *to).collect::<Vec<_>>());
    }
    assert_eq!(reached, BTreeSet::from(State::ALL));
    for state in State::ALL {
        let stops = next(state, Event::Stop).is_ok();
        let resting = matches!(state, State::Inactive | State::Stopping);
        assert_eq!(stops, !resting, "{state} can be stopped");
        let dies = next(state, Event::Failed).is_ok() || next(state, Event::Completed).is_ok();
        assert!(
            dies || !state.has_machine(),
            "a machine can end while it is {state}"
        );
    }
}

#[test]
fn what_cannot_be_says_what_to_do() {
    let illegal = next(State::Paused, Event::Pause).unwrap_err();
    assert_eq!(
        illegal.to_string(),
        "a component that is paused cannot be paused; resume it, or stop it"
    );
}

fn restart(when: RestartWhen, max: Option<u32>) -> Restart {
    Restart {
        when,
        max,
        delay: Period { ms: 100 },
        delay_max: Period { ms: 1000 },
    }
}

fn started(life: &mut Life, now_ms: u64) {
    for event in [Event::Satisfied, Event::Ready] {
        life.happen(event, now_ms).unwrap();
    }
}

#[test]
fn what_follows_an_end() {
    let check = |when, max, end, expect| {
        let mut life = Life::default();
        life.happen(Event::Start, 0).unwrap();
        started(&mut life, 0);
        assert_eq!(
            life.ended(end, &restart(when, max), 5),
            Ok(expect),
            "{when} {end:?}"
        );
    };
    check(RestartWhen::No, None, End::Success, State::Inactive);
    check(RestartWhen::No, None, End::Failure, State::Failed);
    check(RestartWhen::OnFailure, None, End::Success, State::Inactive);
    check(
        RestartWhen::OnFailure,
        None,
        End::Failure,
        State::Restarting,
    );
    check(RestartWhen::OnFailure, Some(0), End::Failure, State::Failed);
    check(RestartWhen::Always, None, End::Success, State::Restarting);
}

#[test]
fn crash_loops_wait_longer_and_come_to_an_end() {
    let restart = restart(RestartWhen::OnFailure, Some(6));
    let mut life = Life::default();
    life.happen(Event::Start, 0).unwrap();
    let mut waits = Vec::new();
    let mut now_ms = 0;
    loop {
        started(&mut life, now_ms);
        if life.ended(End::Failure, &restart, now_ms).unwrap() == State::Failed {
            break;
        }
        let again_ms = life.again_ms().unwrap();
        waits.push(again_ms - now_ms);
        now_ms = again_ms;
        life.happen(Event::Again, now_ms).unwrap();
    }
    assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
    // Whoever starts it by hand gives it all chances again.
    life.happen(Event::Start, now_ms).unwrap();
    assert_eq!(life.restarts(), 0);
}

#[test]
fn who_has_been_ready_for_a_while_begins_anew() {
    let restart = restart(RestartWhen::Always, Some(2));
    let mut life = Life::default();
    life.happen(Event::Start, 0).unwrap();
    let mut now_ms = 0;
    for _ in 0..10 {
        started(&mut life, now_ms);
        now_ms += FORGET_MS_MIN;
        assert_eq!(
            life.ended(End::Failure, &restart, now_ms),
            Ok(State::Restarting)
        );
        assert_eq!(life.again_ms(), Some(now_ms + 100));
        life.happen(Event::Again, now_ms).unwrap();
    }
}

#[test]
fn a_clock_that_jumps_back_is_survived() {
    let restart = restart(RestartWhen::Always, None);
    let mut life = Life::default();
    life.happen(Event::Start, u64::MAX).unwrap();
    started(&mut life, u64::MAX);
    life.ended(End::Failure, &restart, 0).unwrap();
    assert_eq!(life.again_ms(), Some(100));
    life.happen(Event::Again, 0).unwrap();
    started(&mut life, 0);
    life.ended(End::Failure, &restart, u64::MAX).unwrap();
    assert_eq!(life.again_ms(), Some(u64::MAX));
}

#[derive(Debug, Clone)]
enum Step {
    Happen(Event),
    Ended(End),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        proptest::sample::select(&Event::ALL[..]).prop_map(Step::Happen),
        prop_oneof![Just(End::Success), Just(End::Failure)].prop_map(Step::Ended),
    ]
}

proptest! {
    /// Whatever is asked in whatever order: only the table's steps are made, refusals change nothing, and a time to be started again
    /// exists exactly while the component waits for it.
    #[test]
    fn any_order_of_events(
        steps in proptest::collection::vec((step(), 0_u64..100_000), 0..60),
        max in proptest::option::of(0_u32..4),
        when in proptest::sample::select(vec![RestartWhen::No, RestartWhen::OnFailure, RestartWhen::Always]),
    ) {
        let restart = restart(when, max);
        let mut life = Life::default();
        for (step, now_ms) in steps {
            let before = life.clone();
            let result = match step {
                Step::Happen(event) => life.happen(event, now_ms),
                Step::Ended(end) => life.ended(end, &restart, now_ms),
            };
            match result {
                Ok(state) => {
                    prop_assert_eq!(state, life.state());
                    let legal = TRANSITIONS.iter().any(|(from, _, to)| *from == before.state() && *to == state);
                    prop_assert!(legal, "{} to {}", before.state(), state);
                }
                Err(_) => prop_assert_eq!(&life, &before),
            }
            if let (Step::Ended(_), Ok(State::Restarting)) = (&step, result) {
                let wait = life.again_ms().unwrap() - now_ms;
                prop_assert!((restart.delay.ms..=restart.delay_max.ms).contains(&wait));
                prop_assert!(max.is_none_or(|max| life.restarts() <= max));
            }
            if life.state() != State::Restarting {
                prop_assert_eq!(life.again_ms(), None);
            }
        }
    }

    /// Waits never become shorter, and never leave their bounds.
    #[test]
    fn waits_grow(delay in 1_u64..1_000_000, longest in 1_u64..100_000_000, before in 0_u32..200) {
        let restart = Restart { delay: Period { ms: delay }, delay_max: Period { ms: longest }, ..Restart::default() };
        let (one, two) = (delay_ms(&restart, before), delay_ms(&restart, before + 1));
        prop_assert!(one <= two && two <= longest);
        prop_assert_eq!(delay_ms(&restart, 0), delay.min(longest));
    }
}
