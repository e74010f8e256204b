//! Costs and token counts for Python, in whole picodollars.

use pyo3::prelude::*;

use super::call_options::CallOptions;
use super::core::Core;
use super::exceptions::raise;
use super::outcome::{Counts, Outcome};
use super::prompt::Prompt;
use crate::engine::{
    CostEstimate, Moment, OwnPrices, PriceBook, TokenUsage, cost_of_answer, price_book,
    use_newer_prices,
};
use crate::error::Error;

/// Tokens, at most that many, and whether they were counted.
type Size = (u64, u64, bool);

/// Provider, model, size of the prompt, tokens of the answer, most tokens of the answer; low, expected and high cost.
type Estimate = (String, String, Size, u64, Option<u64>, u64, u64, Option<u64>);

#[pymethods]
impl Outcome {
    /// What it cost in picodollars, if that is known.
    fn cost(&self) -> Option<u64> {
        self.0.cost()
    }
}

#[pymethods]
impl Core {
    /// How many tokens a prompt is, or (`alone`) a text without the frame of a message.
    fn count_tokens(
        &self,
        py: Python<'_>,
        prompt: Prompt,
        alone: bool,
        options: &Bound<'_, CallOptions>,
    ) -> PyResult<u64> {
        let ask = options.get().ask(&prompt).map_err(|error| raise(py, &error))?;
        let (_, engine, _) = self.engine(py)?;
        let tokens = py.detach(|| match &prompt {
            Prompt::Text(text) if alone => engine.text_size(&ask, text),
            _ => engine.prompt_size(&ask).map(|size| size.tokens),
        });
        tokens.map_err(|error| raise(py, &error))
    }

    /// What a prompt will cost, if the price of its model is known; and for whom it is.
    fn estimate_cost(
        &self,
        py: Python<'_>,
        prompt: Prompt,
        options: &Bound<'_, CallOptions>,
    ) -> PyResult<(Option<Estimate>, String, String)> {
        let ask = options.get().ask(&prompt).map_err(|error| raise(py, &error))?;
        let (_, engine, _) = self.engine(py)?;
        let found = py.detach(|| {
            let (provider, model) = engine.whose(&ask)?;
            Ok((engine.estimate_cost(&ask)?.map(facts), provider, model))
        });
        found.map_err(|error: Error| raise(py, &error))
    }
}

fn facts(estimate: CostEstimate) -> Estimate {
    let CostEstimate { prompt, output_tokens, most_output_tokens, low, expected, high } = estimate;
    let size = (prompt.tokens, prompt.at_most, prompt.is_exact);
    (prompt.provider, prompt.model, size, output_tokens, most_output_tokens, low, expected, high)
}

/// What such an answer costs in picodollars, for replies that no interface made.
#[pyfunction]
pub(super) fn cost_of(
    provider: &str,
    model: &str,
    counts: Option<Counts>,
    body: &[u8],
    at_unix: f64,
) -> Option<u64> {
    let usage = counts.map(|(input, output, cached, written, reasoning)| TokenUsage {
        input_tokens: input,
        output_tokens: output,
        cached_tokens: cached,
        cache_write_tokens: written,
        reasoning_tokens: reasoning,
    });
    let at = Moment::from_nanos((at_unix * 1e9) as i64);
    cost_of_answer(&OwnPrices::unstated(), provider, model, usage.as_ref(), body, at)
}

/// What the prices that hold in this process were made from: `genai-prices 0.2.3`.
#[pyfunction]
pub(super) fn prices_made_from() -> &'static str {
    price_book().made_from()
}

/// Takes newer prices for the whole process, in the shape of the snapshot.
#[pyfunction]
pub(super) fn take_prices(py: Python<'_>, book: &str) -> PyResult<()> {
    let book = PriceBook::read(book)
        .map_err(|error| raise(py, &Error::argument("prices", error.to_string())))?;
    use_newer_prices(book);
    Ok(())
}
