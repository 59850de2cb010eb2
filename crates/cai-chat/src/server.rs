//! A model behind an OpenAI-compatible server (`POST BASE_URL/chat/completions`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use cai_data::record::{Message, Role};
use cai_model::generate::SamplingConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::Http;
use crate::{Answered, Ask, ChatModel, Error, Reply, Result, Unanswered, names_control_tokens};

/// How a server is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// The environment variable that holds the key; without it none is sent. The key itself is
    /// never written anywhere.
    pub api_key_env: Option<String>,
    /// Requests under way at the same time.
    pub concurrency: usize,
    /// Requests that are begun per minute at most; absent: as many as there are answers.
    pub requests_per_minute: Option<f64>,
    /// How long one request may take, in seconds.
    pub timeout_seconds: f64,
    /// How often a request is sent again after status 408, 409, 425, 429 or 5xx, a broken connection
    /// or half an answer.
    pub retries: usize,
    /// The wait before the first of these, in seconds; doubled each time. A longer `Retry-After` of
    /// the server is kept to.
    pub backoff_seconds: f64,
    /// Answers by which a choice is made where the server gives no log-probabilities.
    pub votes: usize,
    /// Dialogues with more characters are not sent (`prompt_too_long`).
    pub max_prompt_chars: usize,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            api_key_env: None,
            concurrency: 4,
            requests_per_minute: None,
            timeout_seconds: 120.0,
            retries: 6,
            backoff_seconds: 1.0,
            votes: 8,
            max_prompt_chars: 24_000,
        }
    }
}

impl ServerConfig {
    /// # Errors
    ///
    /// [`Error::Setting`] that names the key.
    pub fn check(&self) -> Result<()> {
        let bad = |key, reason: &str| Err(Error::Setting { key, reason: reason.to_owned() });
        let positive = |value: f64| value.is_finite() && value > 0.0;
        match self {
            _ if self.concurrency == 0 => bad("server.concurrency", "must be at least 1"),
            _ if self.votes == 0 => bad("server.votes", "must be at least 1"),
            _ if !positive(self.timeout_seconds) => {
                bad("server.timeout_seconds", "must be a number above 0")
            }
            _ if !(self.backoff_seconds.is_finite() && self.backoff_seconds >= 0.0) => {
                bad("server.backoff_seconds", "must be 0 or more")
            }
            _ if self.requests_per_minute.is_some_and(|rate| !positive(rate)) => {
                bad("server.requests_per_minute", "must be a number above 0")
            }
            _ => Ok(()),
        }
    }
}

/// A model behind a server. Its replies are not reproducible to the byte, whatever the seed: that is
/// the server's business. What it has answered is kept by blocks like everything else.
pub struct Server {
    http: Http,
    model: String,
    config: ServerConfig,
    fingerprint: String,
}

/// Tokens of an answer to a choice: an option, with what may stand before it.
const CHOICE_TOKENS: usize = 8;
/// Added to a question: a model that has not learnt this project's questions must be told.
const CHOICE_REQUEST: &str = "\n\nReply with (A) or (B) and nothing else.";

impl Server {
    /// The model `model` of the server at `base_url`, such as `http://127.0.0.1:8000/v1`.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for settings out of range, an address that is none, or a variable for the
    /// key that is not set.
    pub fn new(base_url: &str, model: &str, config: &ServerConfig) -> Result<Self> {
        config.check()?;
        let base = base_url.trim_end_matches('/');
        if !(base.starts_with("http://") || base.starts_with("https://")) || model.is_empty() {
            let reason = format!(
                "{base_url:?} with model {model:?}; write http(s)://HOST/PATH#MODEL, for example \
                 http://127.0.0.1:8000/v1#my-model"
            );
            return Err(Error::Setting { key: "server", reason });
        }
        let key = match &config.api_key_env {
            None => None,
            Some(name) => Some(std::env::var(name).map_err(|_| Error::Setting {
                key: "server.api_key_env",
                reason: format!("the variable {name} is not set; export {name}=KEY"),
            })?),
        };
        Ok(Self {
            http: Http::new(format!("{base}/chat/completions"), key, config),
            model: model.to_owned(),
            config: config.clone(),
            fingerprint: format!("server:{base}#{model}"),
        })
    }

    /// Does `work` for each of `count` items, several at the same time; the first error ends it.
    fn each<T: Send>(
        &self,
        count: usize,
        work: impl Fn(usize) -> Result<T> + Sync,
        on_done: &mut dyn FnMut(usize),
    ) -> Result<Vec<T>> {
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let mut results: Vec<Option<Result<T>>> = (0..count).map(|_| None).collect();
        thread::scope(|scope| {
            let (done, results_in) = mpsc::channel();
            for _ in 0..self.config.concurrency.min(count) {
                let (done, next, failed, work) = (done.clone(), &next, &failed, &work);
                scope.spawn(move || {
                    while !failed.load(Ordering::SeqCst) {
                        let i = next.fetch_add(1, Ordering::SeqCst);
                        if i >= count {
                            break;
                        }
                        let result = work(i);
                        failed.fetch_or(result.is_err(), Ordering::SeqCst);
                        if done.send((i, result)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(done);
            for (i, result) in results_in {
                results[i] = Some(result);
                on_done(1);
            }
        });
        // After an error some were not begun; then one of the results is that error.
        results.into_iter().flatten().collect()
    }

    /// One answer of the server; by rule if there is none.
    fn ask(&self, ask: &Ask, settings: &Value) -> Result<Answered<Value>> {
        let turns = ask.dialogue.iter().map(|Message { role, content }| {
            let role = match role {
                Role::User => "user",
                Role::Assistant => "assistant",
            };
            json!({"role": role, "content": content})
        });
        // Servers read seeds as signed numbers.
        let seed = ask.seed.0 >> 1;
        let mut body = json!({
            "model": self.model,
            "messages": turns.collect::<Vec<_>>(),
            "seed": seed,
        });
        if let (Some(body), Some(settings)) = (body.as_object_mut(), settings.as_object()) {
            body.extend(settings.clone());
        }
        let Some(mut answer) = self.http.post(&body, ask.seed)? else {
            return Ok(Err(Unanswered::Rejected));
        };
        match answer.pointer_mut("/choices/0").map(Value::take) {
            Some(choice) if choice["finish_reason"] == "content_filter" => {
                Ok(Err(Unanswered::Rejected))
            }
            Some(choice) if choice["message"].is_object() => Ok(Ok(choice)),
            _ => {
                let reason = "its answer has no choices[0].message; is it OpenAI-compatible?";
                Err(self.http.error(reason.to_owned(), 1))
            }
        }
    }

    fn reply(&self, ask: &Ask, sampling: &SamplingConfig) -> Result<Answered<Reply>> {
        let mut settings = json!({
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
        });
        if let Some(top_p) = sampling.top_p {
            settings["top_p"] = top_p.into();
        }
        if let Some(top_k) = sampling.top_k {
            settings["top_k"] = top_k.into();
        }
        Ok(self.ask(ask, &settings)?.map(|choice| {
            let text = text_of(&choice).trim().to_owned();
            let control_tokens = names_control_tokens(&text);
            Reply { truncated: choice["finish_reason"] == "length", text, control_tokens }
        }))
    }

    /// By log-probabilities where the server gives them, else by votes.
    fn choice(&self, ask: &Ask) -> Result<Answered<f64>> {
        let mut ask = ask.clone();
        if let Some(last) = ask.dialogue.last_mut() {
            last.content.push_str(CHOICE_REQUEST);
        }
        let settings = json!({
            "max_tokens": CHOICE_TOKENS, "temperature": 0.0, "logprobs": true, "top_logprobs": 20,
        });
        let choice = match self.ask(&ask, &settings)? {
            Ok(choice) => choice,
            Err(rule) => return Ok(Err(rule)),
        };
        if let Some(share) = share_of_logprobs(&choice) {
            return Ok(Ok(share));
        }
        let settings = json!({"max_tokens": CHOICE_TOKENS, "temperature": 1.0});
        let (mut a, mut b) = (0usize, 0usize);
        for i in 0..self.config.votes {
            let vote = Ask { seed: ask.seed.derive("vote").index(i as u64), ..ask.clone() };
            if let Ok(choice) = self.ask(&vote, &settings)? {
                match option_in(text_of(&choice)) {
                    Some('A') => a += 1,
                    Some(_) => b += 1,
                    None => {}
                }
            }
        }
        let votes = a + b;
        Ok(if votes == 0 { Err(Unanswered::NoAnswer) } else { Ok(a as f64 / votes as f64) })
    }
}

impl ChatModel for Server {
    fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn obstacle(&self, dialogue: &[Message], _: &SamplingConfig) -> Result<Option<&'static str>> {
        let chars: usize = dialogue.iter().map(|message| message.content.chars().count()).sum();
        let roles = dialogue.windows(2).all(|pair| pair[0].role != pair[1].role);
        let starts = dialogue.first().is_some_and(|message| message.role == Role::User);
        Ok(match () {
            () if !roles || !starts => Some("template_refused"),
            () if chars > self.config.max_prompt_chars => Some("prompt_too_long"),
            () => None,
        })
    }

    fn replies(
        &self,
        asks: &[Ask],
        sampling: &SamplingConfig,
        _: usize,
        on_done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Answered<Reply>>> {
        self.each(asks.len(), |i| self.reply(&asks[i], sampling), on_done)
    }

    fn choices(
        &self,
        asks: &[Ask],
        _: usize,
        on_done: &mut dyn FnMut(usize),
    ) -> Result<Vec<Answered<f64>>> {
        self.each(asks.len(), |i| self.choice(&asks[i]), on_done)
    }
}

fn text_of(choice: &Value) -> &str {
    choice["message"]["content"].as_str().unwrap_or_default()
}

/// p(A) from the log-probabilities of the first token that can be an option. Where the other option
/// is not among the listed tokens, it counts as the least of them, which is as much as it can be.
fn share_of_logprobs(choice: &Value) -> Option<f64> {
    for token in choice["logprobs"]["content"].as_array()? {
        let listed: Vec<(&str, f64)> = token["top_logprobs"]
            .as_array()?
            .iter()
            .filter_map(|top| Some((top["token"].as_str()?, top["logprob"].as_f64()?)))
            .collect();
        let mut mass = BTreeMap::<char, f64>::new();
        for (token, logprob) in &listed {
            if let Some(option) = as_option(token) {
                *mass.entry(option).or_default() += logprob.exp();
            }
        }
        if mass.is_empty() {
            continue;
        }
        let least = listed.iter().map(|(_, logprob)| logprob.exp()).fold(f64::INFINITY, f64::min);
        let of = |option| mass.get(&option).copied().unwrap_or(least);
        let (a, b) = (of('A'), of('B'));
        return Some(a / (a + b));
    }
    None
}

/// The option that a token or word is, whatever stands around its letter.
fn as_option(word: &str) -> Option<char> {
    match word.trim_matches(|c: char| !c.is_alphanumeric()) {
        "A" => Some('A'),
        "B" => Some('B'),
        _ => None,
    }
}

/// The first option in a text.
fn option_in(text: &str) -> Option<char> {
    text.split_whitespace().find_map(as_option)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_logprobs(tokens: Value) -> Value {
        json!({"message": {"content": "x"}, "logprobs": {"content": tokens}})
    }

    #[test]
    fn a_choice_is_the_share_of_the_first_token_that_can_be_an_option() {
        let top = |token: &str, p: f64| json!({"token": token, "logprob": p.ln()});
        let tokens = json!([
            {"token": "(", "top_logprobs": [top("(", 0.9), top("The", 0.1)]},
            {"token": "A", "top_logprobs": [top("A", 0.6), top("B", 0.2), top(" A)", 0.1)]},
        ]);
        let share = share_of_logprobs(&with_logprobs(tokens)).unwrap();
        assert!((share - 0.7 / 0.9).abs() < 1e-12, "{share}");
        let one = json!([{"token": "B", "top_logprobs": [top("B", 0.9), top("x", 0.1)]}]);
        assert!((share_of_logprobs(&with_logprobs(one)).unwrap() - 0.1).abs() < 1e-12);
        assert_eq!(share_of_logprobs(&json!({"message": {}, "logprobs": null})), None);
        assert_eq!(share_of_logprobs(&with_logprobs(json!([{"top_logprobs": []}]))), None);
    }

    #[test]
    fn options_are_found_in_words() {
        for (text, option) in [
            ("(A)", Some('A')),
            ("B.", Some('B')),
            ("Answer: (B) because", Some('B')),
            ("Apples", None),
            ("", None),
        ] {
            assert_eq!(option_in(text), option, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
        let config = ServerConfig::default();
        let error = |url, model, config: &ServerConfig| {
            Server::new(url, model, config).err().map(|error| error.to_string()).unwrap()
        };
        assert!(error("127.0.0.1:80", "m", &config).contains("http(s)://HOST/PATH#MODEL"));
        assert!(error("http://127.0.0.1/v1", "", &config).contains("#MODEL"));
        let key = ServerConfig { api_key_env: Some("CAI_NO_SUCH_KEY".into()), ..config.clone() };
        assert!(error("http://127.0.0.1/v1", "m", &key).contains("CAI_NO_SUCH_KEY is not set"));
        let never = ServerConfig { requests_per_minute: Some(0.0), ..config };
        assert!(error("http://127.0.0.1/v1", "m", &never).contains("requests_per_minute"));
    }
}
