//! The pages show the programs that these tests run, and no others.

#[test]
fn each_page_shows_the_program_that_is_run() {
    for (page, source) in [
        (
            include_str!("../../docs/from-silky.md"),
            include_str!("../../plugins/wstest/src/lib.rs"),
        ),
        (
            include_str!("../../docs/from-gatewayworker.md"),
            include_str!("../guests/rooms/src/lib.rs"),
        ),
        (
            include_str!("../../docs/from-bin-x.md"),
            include_str!("../../plugins/everybody/src/lib.rs"),
        ),
    ] {
        let blocks: Vec<_> = page.split("```rust\n").skip(1).collect();
        assert!(!blocks.is_empty());
        for block in blocks {
            let (shown, _) = block.split_once("```").expect("an open block");
            assert!(source.contains(shown), "not in the source:\n{shown}");
        }
    }
}
