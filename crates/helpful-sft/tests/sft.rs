//! Supervised fine-tuning on a tiny random Gemma (cai-model's fixture).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::module::Module;
use cai_data::record::{Conversation, Message};
use cai_data::seed::Seed;
use cai_model::{decoder::Decoder, decoder::Pass, lora::LoraConfig, model::LanguageModel};
use cai_train::{Objective, TrainArgs, params, params::Gradients, progress};
use helpful_sft::{Mode, Prepared, SftConfig, SftObjective, TrainedTurns, pack, prepare, run};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cai-model/tests/fixtures/gemma1")
}

fn model() -> LanguageModel {
    progress::set_quiet(true);
    let device = cai_model::device::parse("cpu").unwrap();
    let base = LanguageModel::load(&folder(), None, &device).unwrap();
    let lora = LoraConfig { r: 4, lora_alpha: 8.0, ..LoraConfig::default() };
    base.add_adapter(&lora, Seed(3)).unwrap()
}

/// Conversations of unequal lengths.
fn conversations(count: usize) -> Vec<Conversation> {
    let conversation = |i: usize| {
        let reply = format!("It is safe {}.", "so ".repeat(i * 3 % 7));
        Conversation::new(vec![Message::user(format!("What is {i}?")), Message::assistant(reply)])
    };
    (0..count).map(conversation).collect()
}

fn config() -> SftConfig {
    SftConfig {
        max_length: 96,
        held_out: 0.0,
        train: TrainArgs {
            learning_rate: 1e-2,
            max_steps: 6,
            save_steps: 3,
            logging_steps: 2,
            ..SftConfig::default().train
        },
        ..SftConfig::default()
    }
}

fn objective<'a>(prepared: &'a Prepared, rows: &'a [Vec<usize>]) -> SftObjective<'a> {
    SftObjective {
        train: &prepared.train,
        weights: &prepared.weights,
        rows,
        held_out: &[],
        pad: 0,
        eval_batch_size: 4,
        mode: Mode::Adapter,
        pass: Pass::default(),
    }
}

type Values = BTreeMap<String, Vec<f32>>;

/// Mean loss and gradient of a step of these micro-batches, as the loop takes them.
fn step(objective: &SftObjective, decoder: &Decoder, micro_batches: &[Vec<usize>]) -> (f64, f64) {
    let total: f64 = micro_batches.iter().map(|items| weight(objective, items)).sum();
    let mut gradients = Gradients::default();
    let mut loss = 0.0;
    for items in micro_batches {
        let found = objective.loss(decoder, items, Seed(1)).unwrap();
        loss += found.loss / total;
        gradients.accumulate(decoder, &mut found.surrogate.div_scalar(total).backward());
    }
    (loss, gradients.norm().unwrap())
}

fn weight(objective: &SftObjective, items: &[usize]) -> f64 {
    Objective::<Decoder>::weight(objective, items)
}

fn trained(model: &LanguageModel) -> Values {
    let values = params::values(&model.decoder.clone().train()).unwrap();
    values.into_iter().map(|(name, data)| (name, data.iter::<f32>().collect())).collect()
}

#[test]
fn a_batch_of_8_is_4_batches_of_2() {
    let model = model();
    let prepared = prepare(&model.tokenizer, &conversations(8), &config()).unwrap();
    let lengths: Vec<usize> = prepared.train.iter().map(|e| e.ids.len()).collect();
    assert!(lengths.iter().max().unwrap() > &(lengths.iter().min().unwrap() + 4), "{lengths:?}");
    let objective = objective(&prepared, &[]);
    let decoder = model.decoder.train();
    let whole = step(&objective, &decoder, &[(0..8).collect()]);
    let parts: Vec<Vec<usize>> = (0..4).map(|i| vec![i, 7 - i]).collect();
    let accumulated = step(&objective, &decoder, &parts);
    assert!((whole.0 - accumulated.0).abs() < 1e-6, "{whole:?} {accumulated:?}");
    assert!((whole.1 - accumulated.1).abs() < 1e-6 * whole.1.max(1.0), "{whole:?} {accumulated:?}");
}

#[test]
fn packed_rows_have_the_loss_and_gradient_of_rows_of_their_own() {
    let model = model();
    let mut records = conversations(9);
    records[4].extra.insert("weight".into(), 0.25.into());
    let prepared = prepare(&model.tokenizer, &records, &config()).unwrap();
    let lengths: Vec<usize> = prepared.train.iter().map(|e| e.ids.len()).collect();
    let rows = pack(&lengths, 96);
    assert!(rows.len() < 9);
    let decoder = model.decoder.train();
    let alone = step(&objective(&prepared, &[]), &decoder, &[(0..9).collect()]);
    let packed = step(&objective(&prepared, &rows), &decoder, &[(0..rows.len()).collect()]);
    assert!((alone.0 - packed.0).abs() < 1e-5, "{alone:?} {packed:?}");
    assert!((alone.1 / packed.1 - 1.0).abs() < 1e-4, "{alone:?} {packed:?}");
}

#[test]
fn a_weight_counts_as_so_many_copies() {
    let model = model();
    let mut records = conversations(3);
    records[1].extra.insert("weight".into(), 2.into());
    let weighted = prepare(&model.tokenizer, &records, &config()).unwrap();
    let mut copies = conversations(3);
    copies.push(copies[1].clone());
    let copied = prepare(&model.tokenizer, &copies, &config()).unwrap();
    let decoder = model.decoder.train();
    let a = step(&objective(&weighted, &[]), &decoder, &[(0..3).collect()]);
    let b = step(&objective(&copied, &[]), &decoder, &[(0..4).collect()]);
    assert!((a.0 - b.0).abs() < 1e-6 && (a.1 - b.1).abs() < 1e-5, "{a:?} {b:?}");
}

#[test]
fn records_are_used_or_counted_and_bad_weights_named() {
    let tokenizer = model().tokenizer;
    let mut records = conversations(4);
    records[0].extra.insert("weight".into(), 0.into());
    records[1].messages[0].content = "long ".repeat(90);
    records[2].messages.pop();
    let prepared = prepare(&tokenizer, &records, &config()).unwrap();
    let left_out: Vec<(&str, usize)> =
        prepared.left_out.iter().map(|(reason, &n)| (reason.as_str(), n)).collect();
    assert_eq!(left_out, [("prompt_too_long", 1), ("template_refused", 1), ("zero_weight", 1)]);
    assert_eq!((prepared.train.len(), prepared.weights.len()), (1, 1));
    records[3].extra.insert("weight".into(), "much".into());
    let error = prepare(&tokenizer, &records, &config()).unwrap_err().to_string();
    assert!(error.starts_with("conversation 4: weight is \"much\""), "{error}");
}

#[test]
fn all_turns_or_the_last_are_trained() {
    let tokenizer = model().tokenizer;
    let turn = [Message::user("Why?"), Message::assistant("Because.")];
    let record = Conversation::new([turn.clone(), turn].concat());
    let count = |turns| {
        let config = SftConfig { turns, ..config() };
        prepare(&tokenizer, std::slice::from_ref(&record), &config).unwrap().train[0]
            .trained_tokens()
    };
    assert_eq!(count(TrainedTurns::All), 2 * count(TrainedTurns::Last));
}

#[test]
fn a_run_with_everything_resumes_to_the_same_bytes() {
    let (whole, cut) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let config = SftConfig {
        packing: true,
        neftune_noise_alpha: Some(5.0),
        held_out: 0.2,
        lora: LoraConfig { lora_dropout: 0.1, ..LoraConfig::default() },
        ..config()
    };
    let records = conversations(60);
    let (first, _) = run(model(), &records, &config, whole.path(), "sft").unwrap();
    // What a kill between the steps 3 and 6 leaves.
    let checkpoint = Path::new("checkpoint-3");
    std::fs::create_dir(cut.path().join(checkpoint)).unwrap();
    for entry in std::fs::read_dir(whole.path().join(checkpoint)).unwrap() {
        let name = checkpoint.join(entry.unwrap().file_name());
        std::fs::copy(whole.path().join(&name), cut.path().join(&name)).unwrap();
    }
    let (resumed, _) = run(model(), &records, &config, cut.path(), "sft").unwrap();
    assert_eq!(trained(&first), trained(&resumed));
    for file in ["adapter/adapter_model.safetensors", "report.json", "metrics.jsonl"] {
        let read = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
        assert!(read(whole.path()) == read(cut.path()), "{file} differs");
    }
    // Noise is part of what the run is.
    let other = SftConfig { neftune_noise_alpha: None, ..config };
    let error = run(model(), &records, &other, cut.path(), "sft").err().unwrap().to_string();
    assert!(error.contains("delete the folder"), "{error}");
}

#[test]
fn packing_learns_as_padding_does() {
    let loss = |packing, size| {
        let folder = tempfile::tempdir().unwrap();
        let mut config = SftConfig { packing, held_out: 0.25, ..config() };
        config.train.per_device_train_batch_size = size;
        config.train.max_steps = 12;
        config.train.eval_on_start = true;
        let (_, report) = run(model(), &conversations(40), &config, folder.path(), "sft").unwrap();
        (report.eval_loss_start.unwrap(), report.eval_loss_end.unwrap())
    };
    // About four conversations in a row.
    let (padded, packed) = (loss(false, 8), loss(true, 2));
    // The same conversations in batches of another size: products of few rows are summed in another order.
    assert!((padded.0 - packed.0).abs() < 1e-6, "{padded:?} {packed:?}");
    assert!(padded.1 < 0.9 * padded.0, "{padded:?}");
    assert!((padded.1 - packed.1).abs() < 0.1, "{padded:?} {packed:?}");
}
