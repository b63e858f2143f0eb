//! A component, and a good one, but no plugin: it exports `run` and nothing of ours.

#[cfg(target_family = "wasm")]
mod job {
    wit_bindgen::generate!({
        inline: "
            package acme:jobs;

            world job {
                export run: func();
            }
        ",
    });

    struct Job;

    impl Guest for Job {
        fn run() {}
    }

    export!(Job);
}
