//! Chat templates: Jinja as `transformers` renders it.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use cai_data::record::Message;
use minijinja::{Environment, ErrorKind, Value, context};
use serde_json::Value as Json;

use super::chat::read_text;
use crate::error::{Error, Result};

const NAME: &str = "chat_template";

/// A model's chat template, ready to render.
///
/// Rendered as `transformers.apply_chat_template` does: `trim_blocks`, `lstrip_blocks`, Python's
/// string methods, and the functions `raise_exception` and `strftime_now` (the time is UTC).
#[derive(Clone, Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    /// The special tokens that the template may name, such as `bos_token`.
    tokens: Value,
}

impl ChatTemplate {
    /// Reads `chat_template.jinja` in `dir`, or else `chat_template` in `config`, the parsed
    /// `tokenizer_config.json`: a template, or a list of `{name, template}` of which `default` is
    /// taken. `tokens` is what the template can name: `bos_token` and so on.
    ///
    /// # Errors
    /// [`Error::Template`] when there is no template or it is not valid Jinja.
    pub fn from_dir(dir: &Path, config: &Json, tokens: Value) -> Result<Self> {
        let file = dir.join("chat_template.jinja");
        let source = if file.exists() {
            read_text(&file)?
        } else {
            default_template(&config["chat_template"]).ok_or_else(|| Error::Template {
                reason: format!(
                    "{} has no chat template: neither chat_template.jinja nor `chat_template` in \
                     tokenizer_config.json (in a list, the one named `default`). Take the files of \
                     an instruction-tuned model, such as google/gemma-2b-it",
                    dir.display()
                ),
            })?
        };
        Self::new(source, tokens)
    }

    /// Compiles `source`.
    ///
    /// # Errors
    /// [`Error::Template`] when it is not valid Jinja.
    pub fn new(source: String, tokens: Value) -> Result<Self> {
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_template_owned(NAME, source.clone()).map_err(template_error)?;
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
            .render(context! { messages, add_generation_prompt, ..self.tokens.clone() })
            .map_err(template_error)
    }
}

fn default_template(setting: &Json) -> Option<String> {
    let template = match setting {
        Json::Array(named) => &named.iter().find(|entry| entry["name"] == "default")?["template"],
        single => single,
    };
    template.as_str().map(str::to_owned)
}

fn template_error(error: minijinja::Error) -> Error {
    Error::Template { reason: error.to_string() }
}

fn raise_exception(message: String) -> std::result::Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// Today's date in the directives that chat templates use; UTC.
fn strftime_now(format: &str) -> std::result::Result<String, minijinja::Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    strftime(format, now.as_secs()).map_err(|directive| {
        let message = format!("strftime_now does not know the directive %{directive}");
        minijinja::Error::new(ErrorKind::InvalidOperation, message)
    })
}

/// `seconds` since 1970 as `format` says, or the directive that is not known.
fn strftime(format: &str, seconds: u64) -> std::result::Result<String, String> {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] =
        ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let month_name = MONTHS[month - 1];
    let day_name = DAYS[(days % 7) as usize];

    let mut text = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let directive = chars.next();
        let part = match directive {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('B') => month_name.to_owned(),
            Some('b') => month_name[..3].to_owned(),
            Some('d') => format!("{day:02}"),
            Some('A') => day_name.to_owned(),
            Some('a') => day_name[..3].to_owned(),
            Some('H') => format!("{:02}", second / 3600),
            Some('M') => format!("{:02}", second / 60 % 60),
            Some('S') => format!("{:02}", second % 60),
            Some('%') => "%".to_owned(),
            other => return Err(other.map(String::from).unwrap_or_default()),
        };
        text.push_str(&part);
    }
    Ok(text)
}

/// Year, month and day of a number of days since 1970-01-01.
fn civil(mut days: u64) -> (u64, usize, u64) {
    let leap =
        |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    (year, month + 1, days + 1)
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_template_is_found_in_a_list_and_its_absence_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let config = serde_json::json!({"chat_template": [
            {"name": "tool_use", "template": "x"},
            {"name": "default", "template": "{{ messages[0].content }}"},
        ]});
        let found = ChatTemplate::from_dir(dir.path(), &config, context! {}).unwrap();
        assert_eq!(found.render(&[Message::user("Hi")], false).unwrap(), "Hi");
        let none = ChatTemplate::from_dir(dir.path(), &Json::Null, context! {}).unwrap_err();
        assert!(none.to_string().contains("chat_template.jinja"), "{none}");
    }

    #[test]
    fn broken_jinja_is_an_error() {
        let error = ChatTemplate::new("{% if %}".into(), context! {}).unwrap_err();
        assert!(matches!(error, Error::Template { .. }));
    }

    #[test]
    fn dates() {
        let format = "%A %a %d %B %b %m %Y %y %H:%M:%S %%";
        let date = strftime(format, 1_709_210_096).unwrap();
        assert_eq!(date, "Thursday Thu 29 February Feb 02 2024 24 12:34:56 %");
        assert_eq!(strftime("%d %b %Y", 0).unwrap(), "01 Jan 1970");
        assert_eq!(strftime("%Q", 0).unwrap_err(), "Q");
        assert!(strftime_now("%Y").unwrap().as_str() >= "2024");
    }
}
