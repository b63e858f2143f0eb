//! Each limit, broken once, in every store that has it.

use anyhow::Result;

use super::{ask, in_memory, keeper, on_disk, stores};

#[tokio::test]
async fn keys_values_and_calls_have_a_size() -> Result<()> {
    for store in stores().await? {
        let limits = "[limits]\nkeyvalue_key_bytes = 10\nkeyvalue_value_bytes = 20";
        let node = keeper(&store.name, limits).start().await?;
        let mut ada = node.client("/keeper").await?;
        let within = ["set-long-key 10", "fill k 20", "set-many 100", "nest k 16"];
        for command in within {
            assert_eq!(ask(&mut ada, command).await?, "done", "{command}");
        }
        let beyond = [
            (
                "set-long-key 11",
                "11 bytes, more than 10 (keyvalue_key_bytes)",
            ),
            ("get aaaaaaaaaaa", "(keyvalue_key_bytes)"),
            ("exists aaaaaaaaaaa", "(keyvalue_key_bytes)"),
            ("delete aaaaaaaaaaa", "(keyvalue_key_bytes)"),
            ("increment aaaaaaaaaaa 1", "(keyvalue_key_bytes)"),
            ("append aaaaaaaaaaa 1", "(keyvalue_key_bytes)"),
            ("set  v", "a key is empty"),
            ("fill k 21", "21 bytes, more than 20 (keyvalue_value_bytes)"),
            ("append k x", "(keyvalue_value_bytes)"),
            ("set-many 101", "101 keys are more than the 100 of one call"),
            ("get-many 101", "101 keys"),
            ("delete-many 101", "101 keys"),
            ("nest k 17", "16 cas handles"),
        ];
        for (command, words) in beyond {
            let said = ask(&mut ada, command).await?;
            assert!(
                said.starts_with("error: ") && said.contains(words),
                "{said}"
            );
        }
        assert_eq!(ask(&mut ada, "get k").await?, "x".repeat(20));
        // Whoever was refused a handle has lost none.
        assert_eq!(ask(&mut ada, "nest k 16").await?, "done");
        let refused = node.counters().await?.get("keyvalue_refused")?;
        assert_eq!(refused, beyond.len() as u64);
    }
    Ok(())
}

#[tokio::test]
async fn a_plugin_has_so_many_bytes_and_can_make_room() -> Result<()> {
    for store in [in_memory(), on_disk()?] {
        let node = keeper(&store.name, "[limits]\nkeyvalue_bytes = 1000")
            .start()
            .await?;
        let mut ada = node.client("/keeper").await?;
        // Each has 64 bytes beside its own.
        assert_eq!(ask(&mut ada, "fill a 430").await?, "done");
        assert_eq!(ask(&mut ada, "fill b 430").await?, "done");
        for command in [
            "fill c 100",
            "increment n 1",
            "append a xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        ] {
            let said = ask(&mut ada, command).await?;
            assert!(said.contains("more than 1000 (keyvalue_bytes)"), "{said}");
        }
        assert_eq!(ask(&mut ada, "keys").await?, "a b");
        assert_eq!(ask(&mut ada, "fill a 200").await?, "done");
        assert_eq!(ask(&mut ada, "fill c 100").await?, "done");
        assert_eq!(ask(&mut ada, "delete b").await?, "done");
        assert_eq!(ask(&mut ada, "fill a 500").await?, "done");
    }
    Ok(())
}

#[tokio::test]
async fn a_bucket_that_is_opened_again_and_again_runs_out_of_nothing() -> Result<()> {
    let node = keeper("memory", "[limits]\ninstances = 1").start().await?;
    let mut ada = node.client("/keeper").await?;
    for _ in 0..1_100 {
        assert_eq!(ask(&mut ada, "get k").await?, "none");
    }
    Ok(())
}
