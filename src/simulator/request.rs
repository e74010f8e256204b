//! A request as the simulator understands it, in any dialect.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;

use super::answer::IncomingRequest;
use super::measure::Text;
use super::settings::Provider;

/// The wire format of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    OpenaiChat,
    OpenaiResponses,
    AnthropicMessages,
    GeminiGenerate,
    OllamaChat,
}

/// Why a request cannot be answered, whatever the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    NoSuchPath,
    WrongMethod,
    /// No key, or an unknown one.
    BadKey,
    NotJson(String),
    Missing(&'static str),
    NoSuchModel,
}

/// One request, understood.
#[derive(Clone, Debug)]
pub(super) struct Request<'a> {
    /// Whom the request talks to: the key's provider, or the one the path looks like.
    pub(super) provider: Provider,
    pub(super) key: Option<usize>,
    pub(super) model: Cow<'a, str>,
    /// All texts of the prompt.
    pub(super) texts: Vec<String>,
    /// The beginning of the last text.
    pub(super) echo: String,
    pub(super) max_tokens: Option<u64>,
    /// The answer is to come as a stream.
    pub(super) streams: bool,
    /// The stream is to report its usage (OpenAI's dialect).
    pub(super) wants_usage: bool,
    /// The stream is to be one of events; Gemini sends a list otherwise.
    pub(super) wants_events: bool,
    /// It came to `/responses`.
    pub(super) wants_response: bool,
    /// It came to Ollama's own `/api/chat`.
    pub(super) is_native: bool,
    pub(super) problem: Option<Problem>,
}

/// The keys by their secrets. Never changes, so it is read without a lock.
pub(super) struct Directory {
    by_secret: HashMap<String, (usize, Provider)>,
}

impl fmt::Debug for Directory {
    /// How many keys, and none of them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directory({} keys)", self.by_secret.len())
    }
}

impl Directory {
    pub(super) fn new(keys: impl Iterator<Item = (String, usize, Provider)>) -> Self {
        Directory {
            by_secret: keys.map(|(secret, index, provider)| (secret, (index, provider))).collect(),
        }
    }

    fn find(&self, dialect: Dialect, secret: &str) -> Option<(usize, Provider)> {
        let (index, provider) = *self.by_secret.get(secret)?;
        let speaks = match dialect {
            Dialect::AnthropicMessages => provider == Provider::Anthropic,
            Dialect::GeminiGenerate => provider == Provider::Gemini,
            Dialect::OpenaiChat => !matches!(provider, Provider::Anthropic | Provider::Gemini),
            Dialect::OpenaiResponses => {
                matches!(provider, Provider::Openai | Provider::Openrouter)
            }
            Dialect::OllamaChat => provider == Provider::Ollama,
        };
        speaks.then_some((index, provider))
    }
}

impl<'a> Request<'a> {
    /// Reads a request; what is wrong with it ends up in `problem`.
    pub(super) fn read(directory: &Directory, request: &IncomingRequest<'a>) -> Request<'a> {
        let path = request.bare_path();
        let mut asked = Request {
            provider: provider_of_path(path),
            key: None,
            model: Cow::Borrowed(""),
            texts: Vec::new(),
            echo: String::new(),
            max_tokens: None,
            streams: false,
            wants_usage: false,
            wants_events: true,
            wants_response: false,
            is_native: false,
            problem: None,
        };
        asked.problem = asked.fill(directory, request, path).err();
        asked
    }

    fn fill(
        &mut self,
        directory: &Directory,
        request: &IncomingRequest<'a>,
        path: &'a str,
    ) -> Result<(), Problem> {
        let (dialect, model_in_path, streams) = dialect_of(path).ok_or(Problem::NoSuchPath)?;
        self.wants_response = dialect == Dialect::OpenaiResponses;
        self.is_native = dialect == Dialect::OllamaChat;
        let secret = secret_of(request, dialect);
        let (key, provider) = directory.find(dialect, secret).ok_or(Problem::BadKey)?;
        (self.key, self.provider) = (Some(key), provider);
        if !request.method.eq_ignore_ascii_case("POST") {
            return Err(Problem::WrongMethod);
        }
        let body: Body<'a> = serde_json::from_slice(request.body)
            .map_err(|error| Problem::NotJson(error.to_string()))?;
        self.model = match model_in_path {
            Some(model) => Cow::Borrowed(model),
            None => body.model.ok_or(Problem::Missing("model"))?,
        };
        let prompt = match dialect {
            Dialect::GeminiGenerate => body.contents.ok_or(Problem::Missing("contents"))?,
            Dialect::OpenaiResponses => body.input.ok_or(Problem::Missing("input"))?,
            _ => body.messages.ok_or(Problem::Missing("messages"))?,
        };
        let instructions = match dialect {
            Dialect::OpenaiChat | Dialect::OllamaChat => None,
            Dialect::OpenaiResponses => body.instructions,
            Dialect::AnthropicMessages => body.system,
            Dialect::GeminiGenerate => body.system_instruction,
        };
        self.echo = prompt.echo();
        self.texts = prompt.texts;
        self.texts.extend(instructions.into_iter().flat_map(|text| text.texts));
        self.max_tokens = match dialect {
            Dialect::GeminiGenerate => {
                body.generation.and_then(|generation| generation.max_output_tokens)
            }
            Dialect::OpenaiResponses => body.max_output_tokens,
            // What is less than nothing stands for no cap.
            Dialect::OllamaChat => {
                body.options.and_then(|options| options.num_predict?.try_into().ok())
            }
            _ => body.max_completion_tokens.or(body.max_tokens),
        };
        if dialect == Dialect::AnthropicMessages {
            if request.header("anthropic-version").is_none() {
                return Err(Problem::Missing("anthropic-version"));
            }
            if self.max_tokens.is_none() {
                return Err(Problem::Missing("max_tokens"));
            }
        }
        self.streams = match dialect {
            Dialect::GeminiGenerate => streams,
            Dialect::OllamaChat => body.stream != Some(false),
            _ => body.stream == Some(true),
        };
        if dialect == Dialect::GeminiGenerate {
            let query = request.path.split_once('?').map_or("", |(_, query)| query);
            self.wants_events = query.split('&').any(|pair| pair == "alt=sse");
        }
        let options = body.stream_options;
        self.wants_usage = options.and_then(|options| options.include_usage) == Some(true);
        Ok(())
    }
}

/// The dialect of a path, the model if the path names it, and whether it is a streaming path.
fn dialect_of(path: &str) -> Option<(Dialect, Option<&str>, bool)> {
    if path.ends_with("/chat/completions") {
        return Some((Dialect::OpenaiChat, None, false));
    }
    if path.ends_with("/responses") {
        return Some((Dialect::OpenaiResponses, None, false));
    }
    if path.ends_with("/v1/messages") {
        return Some((Dialect::AnthropicMessages, None, false));
    }
    if path.ends_with("/api/chat") {
        return Some((Dialect::OllamaChat, None, false));
    }
    let (_, call) = path.rsplit_once("/models/")?;
    let (model, verb) = call.split_once(':')?;
    match verb {
        "generateContent" => Some((Dialect::GeminiGenerate, Some(model), false)),
        "streamGenerateContent" => Some((Dialect::GeminiGenerate, Some(model), true)),
        _ => None,
    }
}

/// Who would refuse a stranger on this path.
fn provider_of_path(path: &str) -> Provider {
    if path.ends_with("/messages") {
        Provider::Anthropic
    } else if path.contains("/models/") || path.starts_with("/v1beta") {
        Provider::Gemini
    } else if path.starts_with("/openai/") {
        Provider::Groq
    } else if path.ends_with("/api/chat") {
        Provider::Ollama
    } else if path.starts_with("/api/") {
        Provider::Openrouter
    } else {
        Provider::Openai
    }
}

/// The key as the dialect carries it; empty when there is none.
fn secret_of<'a>(request: &IncomingRequest<'a>, dialect: Dialect) -> &'a str {
    let own = match dialect {
        Dialect::OpenaiChat | Dialect::OpenaiResponses | Dialect::OllamaChat => None,
        Dialect::AnthropicMessages => request.header("x-api-key"),
        Dialect::GeminiGenerate => request.header("x-goog-api-key"),
    };
    let bearer = || {
        let (scheme, secret) = request.header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(secret.trim())
    };
    let in_query = || {
        let (_, query) = request.path.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix("key="))
    };
    match dialect {
        Dialect::OpenaiChat | Dialect::OpenaiResponses | Dialect::OllamaChat => {
            bearer().unwrap_or("")
        }
        Dialect::AnthropicMessages => own.or_else(bearer).unwrap_or(""),
        Dialect::GeminiGenerate => own.or_else(in_query).unwrap_or(""),
    }
}

/// What the simulator reads of a body in any of the dialects; the rest is skipped.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    messages: Option<Text>,
    system: Option<Text>,
    contents: Option<Text>,
    input: Option<Text>,
    instructions: Option<Text>,
    #[serde(rename = "systemInstruction", alias = "system_instruction")]
    system_instruction: Option<Text>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    #[serde(rename = "generationConfig", alias = "generation_config")]
    generation: Option<Generation>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    options: Option<Options>,
}

#[derive(Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Deserialize)]
struct Options {
    num_predict: Option<i64>,
}

#[derive(Deserialize)]
struct Generation {
    #[serde(rename = "maxOutputTokens", alias = "max_output_tokens")]
    max_output_tokens: Option<u64>,
}
