//! The same numbers as transformers, PEFT and TRL, on tiny random models of every family.
//!
//! The fixtures are made by the scripts beside them in `fixtures/`.

mod common;

use std::path::Path;

use common::{checks, fixture, reference::Reference, shapes};

/// A check: asserts, and returns the largest difference it saw.
type Check = fn(&Reference) -> f64;

/// A module with one test per check for each fixture.
macro_rules! parity {
    ([$($name:ident),*], $checks:tt) => {
        $(mod $name {
            use super::*;
            parity!(@tests $name, $checks);
        })*
        /// Every check with its name, for folders that are not fixtures.
        const CHECKS: &[(&str, Check)] = &parity!(@list $checks);
    };
    (@tests $name:ident, [$($check:ident),*]) => {
        $(#[test]
        fn $check() {
            checks::$check(&Reference::read(&fixture(stringify!($name))));
        })*
    };
    (@list [$($check:ident),*]) => { [$((stringify!($check), checks::$check as Check)),*] };
}

parity!(
    [gemma1, gemma2, gemma3, untied, gemma4, gemma4_kv, gemma4_moe, llama, qwen2, qwen3],
    [
        tokenizer,
        hub_config,
        right_padded_logits,
        left_padded_logits,
        cached_logits,
        adapter_logits,
        greedy_tokens,
        sft_loss,
        sft_gradients,
        completion_logps,
        dpo_loss,
        dpo_gradients,
        dpo_metrics,
        recomputation,
        adapter_round_trip,
        folder_round_trip
    ]
);

/// A module with one test per check for each adapter of PEFT.
macro_rules! adapters {
    ($folder:ident [$($name:ident),*], $checks:tt) => {
        mod $folder {
            $(mod $name {
                adapters!(@tests $folder $name, $checks);
            })*
        }
    };
    (@tests $folder:ident $name:ident, [$($check:ident),*]) => {
        $(#[test]
        fn $check() {
            let path = concat!(stringify!($folder), "/", stringify!($name));
            crate::common::adapters::$check(path);
        })*
    };
}

adapters!(
    adapters [rslora, dora, patterns, everything],
    [logits, gradients, round_trip, parameters, merged, trained_further, recomputed]
);

adapters!(
    rows [tied, tied_list, tied_both, untied, saved_tied, saved_ensured, saved_untied],
    [logits, gradients, round_trip, parameters, merged, merged_head, trained_further, recomputed]
);

// Settings and tensors in the spelling of a model that also sees, which is not written back.
adapters!(
    multimodal [names, excluded, regex, unsloth, full_names],
    [logits, gradients, merged, trained_further, recomputed]
);

#[test]
fn further_shapes() {
    for name in ["gemma2_untied", "gemma3_untied", "gemma3_images", "gemma4_images"] {
        shapes::logits(name);
    }
}

#[test]
fn both_spellings_of_the_text_part_of_gemma_3() {
    shapes::other_spelling();
}

/// `CAI_PEFT_OUT=FOLDER cargo test -p cai-model --test parity saves_for_peft -- --ignored`, then
/// `python fixtures/adapters.py --check FOLDER`
#[test]
#[ignore = "needs CAI_PEFT_OUT, a folder to write"]
fn saves_for_peft() {
    if let Ok(out) = std::env::var("CAI_PEFT_OUT") {
        common::adapters::save_all(Path::new(&out));
    }
}

/// The same checks on other folders, in the layout that `fixtures/make.py` describes:
///
/// `CAI_PARITY_DIR=folder-of-folders cargo test -p cai-model --test parity -- --ignored --nocapture`
///
/// Prints the largest difference of each check.
#[test]
#[ignore = "needs CAI_PARITY_DIR, a folder of reference folders"]
fn other_folders() {
    let Ok(root) = std::env::var("CAI_PARITY_DIR") else {
        return;
    };
    let mut folders: Vec<_> = std::fs::read_dir(Path::new(&root))
        .expect("CAI_PARITY_DIR is a folder")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|path| path.join("reference.json").exists())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "no reference.json in any folder of {root}");
    let mut failed = Vec::new();
    for folder in folders {
        let reference = Reference::read(&folder);
        for (name, check) in CHECKS {
            let checked = std::panic::catch_unwind(|| check(&reference));
            match checked {
                Ok(difference) => println!("{} {name}: {difference:.1e}", folder.display()),
                Err(_) => failed.push(format!("{} {name}", folder.display())),
            }
        }
    }
    assert!(failed.is_empty(), "failed:\n{}", failed.join("\n"));
}
