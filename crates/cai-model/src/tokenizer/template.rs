//! Chat templates: Jinja as `transformers` renders it.

use cai_data::record::Message;
use minijinja::{Environment, ErrorKind, Value, context};
use serde_json::Value as Json;

use super::controls::token_text;
use super::dates::strftime_now;
use super::json::tojson;
use crate::error::{Error, Result};

const NAME: &str = "chat_template";

/// A model's chat template, ready to render.
///
/// Rendered as `transformers.apply_chat_template` does: `trim_blocks`, `lstrip_blocks`, loop
/// controls, Python's string methods and JSON, and the functions `raise_exception` and
/// `strftime_now` (the time is UTC). `{% generation %}`, which marks what is trained, changes
/// nothing: that follows from the prompt here.
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    /// The special tokens that the template may name, such as `bos_token`.
    tokens: Value,
}

impl ChatTemplate {
    /// Compiles `source`; `tokens` is what it can name.
    ///
    /// # Errors
    /// [`Error::Template`] when it is not valid Jinja.
    pub(super) fn new(source: String, tokens: Value) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", tojson);
        // By itself it counts `none` as an empty list.
        environment.add_test("iterable", |v: &Value| !v.is_none() && v.try_iter().is_ok());
        let jinja = without_generation_marks(&source);
        environment.add_template_owned(NAME, jinja).map_err(template_error)?;
        Ok(ChatTemplate { environment, source, tokens })
    }

    /// The template's text.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Renders `messages`; with `add_generation_prompt` up to where the assistant's answer begins.
    ///
    /// # Errors
    /// [`Error::Template`] with the template's own message when it refuses the conversation, such
    /// as one whose roles do not alternate.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let template = self.environment.get_template(NAME).map_err(template_error)?;
        let messages = Value::from_serialize(messages);
        template
            .render(context! {
                messages,
                add_generation_prompt,
                tools => (),
                documents => (),
                ..self.tokens.clone()
            })
            .map_err(template_error)
    }
}

/// `chat_template` of `tokenizer_config.json`: a template, or a list of `{name, template}` of which
/// `default` is taken.
pub(super) fn default_template(setting: &Json) -> Option<String> {
    let template = match setting {
        Json::Array(named) => &named.iter().find(|entry| entry["name"] == "default")?["template"],
        single => single,
    };
    template.as_str().map(str::to_owned)
}

/// What a template can name of `tokenizer_config.json`: `bos_token`, `eos_token` and so on.
pub(super) fn token_names(config: &Json) -> Value {
    let tokens = config.as_object().into_iter().flatten();
    let tokens = tokens.filter(|(key, _)| key.ends_with("_token"));
    tokens.filter_map(|(key, token)| Some((key.clone(), token_text(token)?.to_owned()))).collect()
}

/// The template with conditions that always hold for `{% generation %}` and `{% endgeneration %}`:
/// Jinja does not know these, and trims around all tags alike.
fn without_generation_marks(source: &str) -> String {
    let mut tags = source.split("{%");
    let mut jinja = tags.next().unwrap_or_default().to_owned();
    for tag in tags {
        let words = tag.split_once("%}").map(|(words, rest)| {
            let edges = |c: char| c.is_whitespace() || matches!(c, '-' | '+');
            (words, words.trim_matches(edges), rest)
        });
        match words {
            Some((words, mark @ ("generation" | "endgeneration"), rest)) => {
                let known = if mark == "generation" { "if true" } else { "endif" };
                jinja.extend(["{%", &words.replace(mark, known), "%}", rest]);
            }
            _ => jinja.extend(["{%", tag]),
        }
    }
    jinja
}

fn template_error(error: minijinja::Error) -> Error {
    Error::Template { reason: error.to_string() }
}

fn raise_exception(message: String) -> std::result::Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::tokenizer::GEMMA_CHAT_TEMPLATE;

    fn template(source: &str) -> ChatTemplate {
        ChatTemplate::new(source.to_owned(), context! { bos_token => "<bos>" }).unwrap()
    }

    fn render(source: &str, add_generation_prompt: bool) -> Result<String> {
        let messages = [Message::user(" Hi "), Message::assistant("Hello.")];
        template(source).render(&messages, add_generation_prompt)
    }

    #[test]
    fn gemma_turns() {
        let text = render(GEMMA_CHAT_TEMPLATE, true).unwrap();
        assert_eq!(
            text,
            "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n\
             <start_of_turn>model\n"
        );
    }

    #[test]
    fn roles_that_do_not_alternate_are_refused_with_the_templates_words() {
        let messages = [Message::user("a"), Message::user("b")];
        let error = template(GEMMA_CHAT_TEMPLATE).render(&messages, true).unwrap_err();
        assert!(error.to_string().contains("must alternate"), "{error}");
    }

    #[test]
    fn blocks_are_trimmed_and_python_methods_known() {
        let source = "{% for m in messages %}\n  {% if loop.first %}\n{{ m.content.strip() }}\n  {% endif %}\n{% endfor %}";
        assert_eq!(render(source, false).unwrap(), "Hi\n");
    }

    /// A chat and what transformers made of it: see `tests/fixtures/templates.py`.
    #[derive(Deserialize)]
    struct Case {
        name: String,
        source: String,
        messages: Vec<Message>,
        add_generation_prompt: bool,
        /// Missing where the template refused.
        text: Option<String>,
    }

    impl Case {
        fn agrees(&self) -> bool {
            let names = context! { bos_token => "<s>", eos_token => "</s>", pad_token => "<pad>" };
            let ours = ChatTemplate::new(self.source.clone(), names)
                .and_then(|template| template.render(&self.messages, self.add_generation_prompt));
            let agrees = ours.as_ref().ok() == self.text.as_ref();
            if !agrees {
                println!("{}:\n ours   {ours:?}\n theirs {:?}", self.name, self.text);
            }
            agrees
        }
    }

    fn all_agree(cases: &str) {
        let cases: Vec<Case> = serde_json::from_str(cases).unwrap();
        let failed = cases.iter().filter(|case| !case.agrees()).count();
        assert!(failed == 0 && !cases.is_empty(), "{failed} of {}", cases.len());
    }

    #[test]
    fn chats_are_rendered_as_by_transformers() {
        all_agree(include_str!("../../tests/fixtures/templates.json"));
    }

    #[test]
    #[ignore = "needs CAI_TEMPLATES, what tests/fixtures/templates.py made of a folder of templates"]
    fn other_templates_are_rendered_as_by_transformers() {
        all_agree(&std::fs::read_to_string(std::env::var("CAI_TEMPLATES").unwrap()).unwrap());
    }

    #[test]
    fn broken_jinja_is_an_error() {
        let error = ChatTemplate::new("{% if %}".into(), context! {}).unwrap_err();
        assert!(matches!(error, Error::Template { .. }));
    }
}
