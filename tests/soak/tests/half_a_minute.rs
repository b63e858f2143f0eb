//! The soak in half a minute, as CI has it: 300 clients on three nodes, and one of each fault.
//! And runs with a fault of the test itself, which has to be found: a checker that finds nothing
//! would be as green as a node without faults.

use std::time::Duration;

use anyhow::{Context as _, Result};
use jackfield_soak::{Fault, Options, Sabotage, run};

fn seed() -> Result<u64> {
    let seed = match std::env::var("JACKFIELD_TESTS_SEED") {
        Ok(seed) => seed.parse().context("JACKFIELD_TESTS_SEED")?,
        Err(_) => fastrand::u64(..),
    };
    eprintln!("the soak: JACKFIELD_TESTS_SEED={seed}");
    Ok(seed)
}

#[test]
fn everything_at_once_and_nothing_is_lost() -> Result<()> {
    let report = run(&Options {
        clients: 300,
        nodes: 3,
        time: Duration::from_secs(30),
        seed: seed()?,
        rate: 200,
        sabotage: None,
    })?;
    eprintln!("{report}");
    for fault in [
        Fault::Reload,
        Fault::Disconnect,
        Fault::Drain,
        Fault::Kill,
        Fault::Partition,
    ] {
        assert!(report.faults().contains_key(&fault), "{fault:?}");
    }
    assert!(report.came() > 10_000, "only {} messages", report.came());
    Ok(())
}

#[test]
fn a_fault_of_the_test_itself_is_found() -> Result<()> {
    for (sabotage, found) in [
        (Sabotage::Lose, "was lost"),
        (Sabotage::Double, "came twice"),
        (Sabotage::Reorder, "of the same sender"),
        (Sabotage::Misdeliver, "was for others"),
    ] {
        let seed = seed()?;
        // Few clients that say much: two messages of one sender are often under way.
        let outcome = run(&Options {
            clients: 12,
            nodes: 1,
            time: Duration::ZERO,
            seed,
            rate: 1000,
            sabotage: Some(sabotage),
        });
        let error = format!("{:?}", outcome.err().context("nothing was found")?);
        assert!(error.contains(found), "{sabotage:?}: {error}");
        assert!(error.contains(&seed.to_string()), "no seed in {error}");
    }
    Ok(())
}
