//! Real models, from GGUF files that are not part of the project, against numbers of transformers.
//!
//! `CAI_REAL=FOLDER CAI_REAL_REFERENCE=reference.json cargo test -p cai-model --test real -- --ignored --nocapture`
//!
//! `reference.json` holds for each `NAME.gguf` in FOLDER `greedy` (`[{text, ids, completion}]`, 24 new tokens) and
//! `tokenizer` (`[{text, ids}]`), as transformers has them for the dequantised weights.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Instant};

use burn::tensor::Device;
use cai_data::seed::Seed;
use cai_model::{
    generate::{SamplingConfig, generate},
    model::LanguageModel,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    greedy: Vec<Greedy>,
    tokenizer: Vec<Encoded>,
}

#[derive(Deserialize)]
struct Greedy {
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Encoded {
    text: String,
    ids: Vec<u32>,
}

#[test]
#[ignore = "needs CAI_REAL, a folder of GGUF files, and CAI_REAL_REFERENCE"]
fn greedy_tokens_and_ids_are_those_of_transformers() {
    let path = |name: &str| PathBuf::from(std::env::var(name).expect(name));
    let text = fs::read_to_string(path("CAI_REAL_REFERENCE")).unwrap();
    let references: BTreeMap<String, Reference> = serde_json::from_str(&text).unwrap();
    for (name, reference) in references {
        let start = Instant::now();
        let file = path("CAI_REAL").join(format!("{name}.gguf"));
        let model = LanguageModel::load(&file, None, &Device::flex()).unwrap();
        println!("{name}: loaded in {:.2} s", start.elapsed().as_secs_f64());
        for Encoded { text, ids } in &reference.tokenizer {
            // Transformers takes the text of a control token for one.
            let ours = model.tokenizer.encode_with_special(text).unwrap();
            assert_eq!(ours, *ids, "{name}: {text:?}");
        }
        for Greedy { text, ids } in &reference.greedy {
            let (prompt, expected) = ids.split_at(ids.len() - 24);
            let encoded = model.tokenizer.encode(text).unwrap();
            assert!(prompt.ends_with(&encoded), "{name}: {text:?}");
            let sampling = SamplingConfig::greedy(24);
            let prompts = [prompt.to_vec()];
            let made = generate(&model, &prompts, &sampling, &[Seed(0)], 1, &mut |_| {}).unwrap();
            let length = made[0].ids.len();
            assert!(expected.starts_with(&made[0].ids), "{name}: {text:?}: {}", made[0].text);
            // Transformers was told to go on behind an end of text.
            let ended =
                expected.get(length).is_none_or(|id| model.tokenizer.stop_ids().contains(id));
            assert!(ended, "{name}: {text:?}: it ended after {length} tokens");
            println!("{name}: {text:?}: {} tokens equal", made[0].ids.len());
        }
    }
}
