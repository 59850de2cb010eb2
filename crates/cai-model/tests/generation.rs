//! The engine: what a request gets beside others is what it gets alone.

use std::{collections::HashMap, ops::ControlFlow, path::Path};

use cai_data::{record::Message, seed::Seed};
use cai_model::{
    generate::{
        Engine, Event, Finish, Generation, Limits, Request, RequestId, SamplingConfig, complete,
        generate,
    },
    model::LanguageModel,
};
use rand::RngExt;

/// Random ones for each kind of attention (two have sliding windows of 6), and the trained one.
const MODELS: [&str; 5] = [
    "tests/fixtures/gemma1",
    "tests/fixtures/gemma2",
    "tests/fixtures/gemma3",
    "tests/fixtures/untied",
    "../../artifacts/models/mini-gemma",
];
/// Closer than this, two logits (or a drawn point and the border of a token's share) may change
/// places with the batch.
const TIE: f64 = 1e-4;

fn load(name: &str) -> LanguageModel {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    LanguageModel::load(&dir, None, &cai_model::device::parse("cpu").unwrap()).unwrap()
}

fn mini() -> LanguageModel {
    load(MODELS[4])
}

fn ask(model: &LanguageModel, text: &str) -> Vec<u32> {
    model.tokenizer.prompt(&[Message::user(text)]).unwrap()
}

/// Greedy, seeded and filtered requests with 1 to 40 prompt tokens, 1 to 24 new ones, and 1 to 3
/// samples. All log-probabilities are asked for, to find ties.
fn requests(model: &LanguageModel, count: u64) -> Vec<Request> {
    let vocabulary = model.tokenizer.vocab_size();
    let request = |i: u64| {
        let mut rng = Seed(3).index(i).rng();
        let prompt = (0..rng.random_range(1..=40)).map(|_| rng.random_range(0..vocabulary as u32));
        let prompt = prompt.collect();
        let base = SamplingConfig {
            max_new_tokens: rng.random_range(1..=24),
            logprobs: Some(vocabulary),
            ..Default::default()
        };
        let sampling = match i % 3 {
            0 => SamplingConfig { temperature: 0.0, ..base },
            1 => base,
            _ => SamplingConfig {
                temperature: 0.8,
                top_k: Some(40),
                top_p: Some(0.9),
                min_p: Some(0.01),
                repetition_penalty: 1.1,
                ..base
            },
        };
        let seeds = (0..1 + i % 3).map(|sample| Seed(i).index(sample)).collect();
        Request { prompt, sampling, seeds }
    };
    (0..count).map(request).collect()
}

/// What each sample of a request gets in an engine of its own.
fn alone(model: &LanguageModel, request: &Request) -> Vec<Generation> {
    let single = |&seed: &Seed| {
        let prompts = [request.prompt.clone()];
        generate(model, &prompts, &request.sampling, &[seed], 1, &mut |_| {}).unwrap().remove(0)
    };
    request.seeds.iter().map(single).collect()
}

/// Whether two generations agree up to a token that was almost a tie.
fn check_same(ours: &Generation, theirs: &Generation, request: &Request, sample: usize) {
    let differs = |(a, b): (&u32, &u32)| a != b;
    let at = ours.ids.iter().zip(&theirs.ids).position(differs);
    let at = at.unwrap_or(ours.ids.len().min(theirs.ids.len()));
    for (a, b) in ours.token_logprobs[..at].iter().zip(&theirs.token_logprobs) {
        assert!((a - b).abs() < 1e-3, "log-probability {a}, alone {b}");
    }
    if ours.ids == theirs.ids && ours.finish == theirs.finish {
        return;
    }
    let top = &theirs.top_logprobs[at];
    let gap = match request.sampling {
        SamplingConfig { temperature: 0.0, .. } => (top[0].1 - top[1].1) as f64,
        SamplingConfig { temperature: 1.0, .. } => {
            let mut shares = top.clone();
            shares.sort_by_key(|&(id, _)| id);
            let drawn: f64 = request.seeds[sample].index(at as u64).rng().random();
            let mut sum = 0.0;
            let borders = shares.iter().map(|&(_, logprob)| {
                sum += (logprob as f64).exp();
                (sum - drawn).abs()
            });
            borders.fold(1.0, f64::min)
        }
        // The filters have borders, too, which these tests do not look for.
        _ => 1.0,
    };
    assert!(gap < TIE, "token {at} differs, though {gap} apart: {ours:?} {theirs:?}");
}

/// Steps an engine to its end; adds what finishes and the texts that were told.
#[derive(Default)]
struct Results {
    finished: HashMap<(RequestId, usize), Generation>,
    told: HashMap<(RequestId, usize), (Vec<u32>, String)>,
}

impl Results {
    fn step(&mut self, engine: &mut Engine) {
        for event in engine.step().unwrap() {
            match event {
                Event::Token { request, sample, token, text, .. } => {
                    let told = self.told.entry((request, sample)).or_default();
                    told.0.push(token);
                    told.1.push_str(&text);
                }
                Event::Finished { request, sample, text, generation } => {
                    let told = self.told.entry((request, sample)).or_default();
                    told.1.push_str(&text);
                    assert_eq!((&told.0, &told.1), (&generation.ids, &generation.text));
                    let sum: f64 = generation.token_logprobs.iter().map(|&x| x as f64).sum();
                    assert!((sum - generation.logprob).abs() < 1e-3);
                    let before = self.finished.insert((request, sample), generation);
                    assert!(before.is_none(), "it ended twice");
                }
            }
        }
    }
}

#[test]
fn neighbours_that_come_and_go_change_nothing() {
    for model in MODELS.map(load) {
        let requests = requests(&model, 12);
        let limits = Limits { max_batch_size: 4, max_length: 64, max_prefill_tokens: 50 };
        let mut engine = Engine::new(model.clone(), limits).unwrap();
        let mut results = Results::default();
        let mut ids = Vec::new();
        for (i, request) in requests.iter().enumerate() {
            ids.push(engine.submit(request.clone()).unwrap());
            // One more joins every few steps, another leaves early.
            let steps = if i % 4 == 3 { 9 } else { i % 3 };
            (0..steps).for_each(|_| results.step(&mut engine));
            if i == 5 {
                assert!(engine.running() > 0);
                engine.cancel(ids[4]);
            }
        }
        while !engine.is_idle() {
            results.step(&mut engine);
        }
        for (i, (request, id)) in requests.iter().zip(ids).enumerate() {
            let alone = alone(&model, request);
            for (sample, alone) in alone.iter().enumerate() {
                match results.finished.get(&(id, sample)) {
                    Some(ours) => check_same(ours, alone, request, sample),
                    None => assert_eq!(i, 4, "only the cancelled one may miss a sample"),
                }
            }
        }
    }
}

#[test]
fn a_file_of_prompts_is_answered_in_its_order_whatever_the_batch() {
    for model in MODELS.map(load) {
        let requests = requests(&model, 9);
        let mut events = 0;
        let answers = complete(&model, &requests, 5, &mut |_, _| {
            events += 1;
            ControlFlow::Continue(())
        });
        let answers = answers.unwrap().unwrap();
        for (request, answers) in requests.iter().zip(&answers) {
            assert_eq!(answers.len(), request.seeds.len());
            for (sample, (ours, alone)) in answers.iter().zip(alone(&model, request)).enumerate() {
                check_same(ours, &alone, request, sample);
            }
        }
        let tokens: usize = answers.iter().flatten().map(|answer| answer.ids.len() + 1).sum();
        assert_eq!(events, tokens);
    }
}

#[test]
fn the_same_run_gives_the_same_bytes() {
    let model = mini();
    let requests = requests(&model, 8);
    let run = || complete(&model, &requests, 4, &mut |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(run(), run());
}

#[test]
fn samples_share_a_prompt_and_not_their_draws() {
    let model = mini();
    for new in [1, 12] {
        let sampling = SamplingConfig { max_new_tokens: new, ..Default::default() };
        let prompt = ask(&model, "How do I bake bread?");
        // More samples than rows, then another request: rows are used again while samples wait.
        let shared = Request { prompt, sampling, seeds: (0..7).map(Seed).collect() };
        let other = Request { seeds: (7..10).map(Seed).collect(), ..shared.clone() };
        let requests = [shared, other];
        for rows in [1, 3, 4] {
            let limits = Limits { max_batch_size: rows, ..Limits::default() };
            let mut engine = Engine::new(model.clone(), limits).unwrap();
            let ids = requests.clone().map(|request| engine.submit(request).unwrap());
            let mut results = Results::default();
            while !engine.is_idle() {
                results.step(&mut engine);
                assert!(engine.running() <= rows);
            }
            for (request, id) in requests.iter().zip(ids) {
                for (sample, alone) in alone(&model, request).iter().enumerate() {
                    assert_eq!(results.finished[&(id, sample)].ids, alone.ids);
                }
            }
        }
        let texts: std::collections::HashSet<_> =
            alone(&model, &requests[0]).into_iter().map(|answer| answer.ids).collect();
        assert!(texts.len() > 1, "seeds make samples differ");
    }
}

#[test]
fn a_long_prompt_is_read_in_pieces() {
    for model in MODELS.map(load) {
        let request = Request {
            prompt: (0..45).map(|i| 20 + i * 7 % 300).collect(),
            sampling: SamplingConfig { logprobs: Some(2), ..SamplingConfig::greedy(10) },
            seeds: vec![Seed(0)],
        };
        let whole = alone(&model, &request).remove(0);
        for max_prefill_tokens in [1, 7, 44] {
            let limits = Limits { max_prefill_tokens, max_length: 55, ..Limits::default() };
            let mut engine = Engine::new(model.clone(), limits).unwrap();
            let id = engine.submit(request.clone()).unwrap();
            let mut results = Results::default();
            while !engine.is_idle() {
                results.step(&mut engine);
            }
            check_same(&results.finished[&(id, 0)], &whole, &request, 0);
        }
    }
}

#[test]
fn stop_strings_and_stop_tokens_end_an_answer() {
    let model = mini();
    let prompt = ask(&model, "How do I bake bread?");
    let answer = |sampling: SamplingConfig| {
        generate(&model, std::slice::from_ref(&prompt), &sampling, &[Seed(0)], 1, &mut |_| {})
            .unwrap()
            .remove(0)
    };
    let whole = answer(SamplingConfig::greedy(40));
    assert!(whole.ids.len() > 6, "{whole:?}");
    assert_eq!(whole.text, model.tokenizer.decode(&whole.ids).unwrap());

    // From inside one token to inside another.
    let chars: Vec<(usize, char)> = whole.text.char_indices().collect();
    let (from, to) = (chars[chars.len() / 3].0, chars[chars.len() / 3 + 7].0);
    let stop = whole.text[from..to].to_owned();
    let first = whole.text.find(&stop).unwrap();
    let stopped = answer(SamplingConfig { stop: vec![stop], ..SamplingConfig::greedy(40) });
    assert_eq!((stopped.text.as_str(), stopped.finish), (&whole.text[..first], Finish::StopString));
    assert_eq!(stopped.ids, whole.ids[..stopped.ids.len()]);
    assert!(stopped.ids.len() < whole.ids.len());

    let token = whole.ids[3];
    let at = whole.ids.iter().position(|&id| id == token).unwrap();
    let stopped =
        answer(SamplingConfig { stop_token_ids: vec![token], ..SamplingConfig::greedy(40) });
    assert_eq!((&stopped.ids[..], stopped.finish), (&whole.ids[..at], Finish::Stop));
    assert_eq!(stopped.token_logprobs.len(), at + 1);

    let cut = answer(SamplingConfig { logprobs: Some(3), ..SamplingConfig::greedy(4) });
    assert_eq!((&cut.ids[..], cut.finish), (&whole.ids[..4], Finish::Length));
    for ((&id, &logprob), top) in cut.ids.iter().zip(&cut.token_logprobs).zip(&cut.top_logprobs) {
        assert_eq!((top.len(), top[0]), (3, (id, logprob)));
    }
}

#[test]
fn what_cannot_be_served_is_refused_with_a_reason() {
    let model = mini();
    let context = model.spec.max_position_embeddings;
    let message = |prompts: &[Vec<u32>], sampling: &SamplingConfig| {
        let seeds = vec![Seed(0); prompts.len()];
        generate(&model, prompts, sampling, &seeds, 4, &mut |_| {}).unwrap_err().to_string()
    };
    let long = vec![5; context - 10];
    let text = message(&[vec![2], vec![2], long.clone()], &SamplingConfig::greedy(11));
    assert!(text.starts_with("prompt 3: 1014 prompt tokens and max_new_tokens 11"), "{text}");
    assert!(text.contains("context, 1024"), "{text}");
    let short = SamplingConfig::greedy(1);
    assert!(message(&[vec![2], Vec::new()], &short).starts_with("prompt 2: the prompt has no"));
    assert!(message(&[vec![99_999]], &short).contains("token 99999"));
    let wrong = SamplingConfig { top_p: Some(2.0), ..short.clone() };
    assert!(message(&[vec![2]], &wrong).contains("top_p"));
    assert!(generate(&model, &[vec![2]], &short, &[], 4, &mut |_| {}).is_err());
    assert!(generate(&model, &[], &short, &[], 4, &mut |_| {}).unwrap().is_empty());

    let limits = Limits { max_length: 16, ..Limits::default() };
    let mut engine = Engine::new(model.clone(), limits).unwrap();
    let request = Request { prompt: vec![2; 16], sampling: short, seeds: vec![Seed(0)] };
    let text = engine.submit(request).unwrap_err().to_string();
    assert!(text.contains("engine's max_length, 16"), "{text}");
    assert!(engine.is_idle() && engine.step().unwrap().is_empty());
    assert!(Engine::new(model, Limits { max_batch_size: 0, ..limits }).is_err());
}

#[test]
fn a_cancelled_request_says_nothing_more() {
    let model = mini();
    let mut engine =
        Engine::new(model.clone(), Limits { max_batch_size: 2, ..Limits::default() }).unwrap();
    let prompt = ask(&model, "How do I bake bread?");
    let request = |seeds: std::ops::Range<u64>| Request {
        prompt: prompt.clone(),
        sampling: SamplingConfig { max_new_tokens: 5, ..Default::default() },
        seeds: seeds.map(Seed).collect(),
    };
    let gone = engine.submit(request(0..3)).unwrap();
    let stays = engine.submit(request(3..5)).unwrap();
    engine.step().unwrap();
    assert_eq!((engine.running(), engine.waiting()), (2, 2));
    assert!(engine.cancel(gone));
    assert!(!engine.cancel(gone));
    let mut results = Results::default();
    while !engine.is_idle() {
        results.step(&mut engine);
    }
    assert!(results.told.keys().all(|(id, _)| *id == stays));
    assert_eq!(results.finished.len(), 2);
}
