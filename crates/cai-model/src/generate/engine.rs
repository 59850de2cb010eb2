use std::{collections::VecDeque, sync::Arc};

use burn::tensor::{DType, Int, Tensor, TensorData};
use rayon::prelude::*;

use super::{Event, Limits, Request, RequestId, sequence::Sequence};
use crate::{Error, Result, decoder::KvCache, device::among_workers, model::LanguageModel};

/// Generates for many requests at once (continuous batching: Yu et al., Orca, OSDI 2022).
///
/// A request that [`submit`](Self::submit) took waits until a row of the cache is free; requests
/// start in the order in which they came. After an error of [`step`](Self::step) the engine is of no
/// further use.
pub struct Engine {
    model: LanguageModel,
    limits: Limits,
    cache: KvCache,
    /// The rows of the cache.
    rows: Vec<Row>,
    waiting: VecDeque<Waiting>,
    submitted: u64,
}

#[derive(Default)]
struct Row {
    sequence: Option<Sequence>,
    /// The request whose prompt stands at the row's beginning, even after its sequence has ended.
    prompt: Option<RequestId>,
}

/// A request with samples that have not begun.
struct Waiting {
    id: RequestId,
    request: Arc<Request>,
    begun: usize,
    /// Logits after the prompt, once it was read.
    logits: Option<Vec<f32>>,
}

impl Engine {
    /// An engine without requests.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when one of the limits is 0.
    pub fn new(model: LanguageModel, limits: Limits) -> Result<Self> {
        let Limits { max_batch_size, max_length, max_prefill_tokens } = limits;
        if max_batch_size == 0 || max_length == 0 || max_prefill_tokens == 0 {
            let reason = "max_batch_size, max_length and max_prefill_tokens must be at least 1";
            return Err(Error::Input(reason.into()));
        }
        let cache = KvCache::new(&model.spec, max_batch_size, max_length);
        let rows = (0..max_batch_size).map(|_| Row::default()).collect();
        Ok(Self { model, limits, cache, rows, waiting: VecDeque::new(), submitted: 0 })
    }

    /// Puts a request in the queue.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] for settings out of range, a prompt that is empty or holds ids that the
    /// model does not have, no seed, or a prompt that leaves no room for `max_new_tokens` in the
    /// model's context or the engine's rows.
    pub fn submit(&mut self, request: Request) -> Result<RequestId> {
        request.check(&self.model.spec, self.limits.max_length)?;
        let id = RequestId(self.submitted);
        self.submitted += 1;
        let request = Arc::new(request);
        self.waiting.push_back(Waiting { id, request, begun: 0, logits: None });
        Ok(id)
    }

    /// Takes a request back: it brings no further event. Whether there was such a request.
    pub fn cancel(&mut self, id: RequestId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| waiting.id != id);
        let mut found = self.waiting.len() < before;
        for row in &mut self.rows {
            if row.sequence.as_ref().is_some_and(|sequence| sequence.request == id) {
                row.sequence = None;
                found = true;
            }
        }
        found
    }

    /// Sequences under way.
    pub fn running(&self) -> usize {
        self.rows.iter().filter(|row| row.sequence.is_some()).count()
    }

    /// Requests of which a sample has not begun.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Whether there is nothing to do.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running() == 0
    }

    /// Begins what waits, as far as rows are free, and adds one token to each sequence.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] when the model's logits are not finite; those of the tokenizer's decoder.
    pub fn step(&mut self) -> Result<Vec<Event>> {
        among_workers(|| self.add_to_all())
    }

    fn add_to_all(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        self.begin_samples(&mut events)?;
        self.read_prompts()?;
        self.begin_samples(&mut events)?;
        self.close_gaps()?;
        self.add_tokens(&mut events)?;
        Ok(events)
    }

    /// Reads the prompts of the requests that come next: as many as rows are free for all their
    /// samples (the last may have more than that), within `max_prefill_tokens`.
    fn read_prompts(&mut self) -> Result<()> {
        // One that was read waits for free rows: there is none.
        if self.waiting.front().is_none_or(|next| next.logits.is_some()) {
            return Ok(());
        }
        let free: Vec<usize> =
            (0..self.rows.len()).filter(|&row| self.rows[row].sequence.is_none()).collect();
        let (mut count, mut width, mut left) = (0, 0, free.len());
        for Waiting { request, .. } in &self.waiting {
            let wider = width.max(request.prompt.len());
            let fits = (count + 1) * wider <= self.limits.max_prefill_tokens;
            if left == 0 || (count > 0 && !fits) {
                break;
            }
            (count, width) = (count + 1, wider);
            left = left.saturating_sub(request.seeds.len());
        }
        if count == 0 {
            return Ok(());
        }
        let rows = &free[..count];
        for (&row, waiting) in rows.iter().zip(&self.waiting) {
            self.cache.clear(row)?;
            self.rows[row].prompt = Some(waiting.id);
        }
        let requests: Vec<Arc<Request>> =
            self.waiting.iter().take(count).map(|waiting| waiting.request.clone()).collect();
        let prompts: Vec<&[u32]> = requests.iter().map(|r| r.prompt.as_slice()).collect();
        let logits = match prompts[..] {
            // A long one, which is alone then, in pieces.
            [prompt] => {
                let mut logits = Vec::new();
                for piece in prompt.chunks(self.limits.max_prefill_tokens) {
                    logits = self.next_logits(&[piece], rows)?;
                }
                logits
            }
            _ => self.next_logits(&prompts, rows)?,
        };
        let vocabulary = logits.len() / count;
        for (waiting, logits) in self.waiting.iter_mut().zip(logits.chunks(vocabulary)) {
            waiting.logits = Some(logits.to_vec());
        }
        Ok(())
    }

    /// Begins samples of the requests whose prompts were read, while rows are free. The first takes
    /// the row in which the prompt stands, the others a copy.
    fn begin_samples(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let stops = self.model.tokenizer.stop_ids();
        while let Some(next) = self.waiting.front() {
            let (Some(logits), Some((source, row))) = (&next.logits, self.rows_for(next.id)) else {
                return Ok(());
            };
            let (id, request) = (next.id, next.request.clone());
            let sequence = Sequence::new(id, next.begun, request.clone(), &self.model.tokenizer);
            let choice = sequence.choose(logits)?;
            self.cache.copy(source, row, request.prompt.len())?;
            self.rows[row].prompt = Some(id);
            self.rows[row].sequence = sequence.add(choice, &stops, events)?;
            if let Some(next) = self.waiting.front_mut() {
                next.begun += 1;
                if next.begun == request.seeds.len() {
                    self.waiting.pop_front();
                }
            }
        }
        Ok(())
    }

    /// A row that holds the request's prompt, and a free one for its next sample: the same where
    /// possible, and none that another waiting request needs.
    fn rows_for(&self, id: RequestId) -> Option<(usize, usize)> {
        let rows = || self.rows.iter().enumerate();
        let holding = || rows().filter(|(_, row)| row.prompt == Some(id));
        let needed =
            |row: &Row| self.waiting.iter().any(|w| w.logits.is_some() && row.prompt == Some(w.id));
        let own = holding().find(|(_, row)| row.sequence.is_none()).map(|(i, _)| (i, i));
        own.or_else(|| {
            let (source, _) = holding().next()?;
            let (row, _) = rows().find(|(_, row)| row.sequence.is_none() && !needed(row))?;
            Some((source, row))
        })
    }

    /// Moves sequences from the last rows to free ones before them: those under way then are the
    /// first rows of the cache, which attention reads without a copy.
    fn close_gaps(&mut self) -> Result<()> {
        let (mut free, mut last) = (0, self.rows.len());
        loop {
            let holds = |row: &usize| self.rows[*row].sequence.is_some();
            let first = (free..last).find(|row| !holds(row));
            let from = (0..last).rfind(holds);
            let (Some(first), Some(from)) = (first, from) else { return Ok(()) };
            if first > from {
                return Ok(());
            }
            (free, last) = (first, from);
            self.cache.copy(last, free, self.cache.lengths()[last])?;
            self.rows[free].sequence = self.rows[last].sequence.take();
            self.rows[free].prompt = self.rows[last].prompt;
        }
    }

    /// One token for each sequence.
    fn add_tokens(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let sequences: Vec<Sequence> =
            self.rows.iter_mut().map_while(|row| row.sequence.take()).collect();
        if sequences.is_empty() {
            return Ok(());
        }
        let last: Vec<u32> = sequences.iter().filter_map(Sequence::last).collect();
        let last: Vec<&[u32]> = last.chunks(1).collect();
        let rows: Vec<usize> = (0..sequences.len()).collect();
        let logits = self.next_logits(&last, &rows)?;
        let vocabulary = logits.len() / sequences.len();
        let stops = self.model.tokenizer.stop_ids();
        let added: Vec<(Option<Sequence>, Vec<Event>)> = sequences
            .into_par_iter()
            .zip(logits.par_chunks(vocabulary))
            .map(|(sequence, logits)| {
                let choice = sequence.choose(logits)?;
                let mut events = Vec::new();
                Ok((sequence.add(choice, &stops, &mut events)?, events))
            })
            .collect::<Result<_>>()?;
        for (row, (sequence, news)) in self.rows.iter_mut().zip(added) {
            row.sequence = sequence;
            events.extend(news);
        }
        Ok(())
    }

    /// Logits after the last of each row's new tokens, row by row.
    fn next_logits(&mut self, tokens: &[&[u32]], rows: &[usize]) -> Result<Vec<f32>> {
        let width = tokens.iter().map(|tokens| tokens.len()).max().unwrap_or(0);
        let counts: Vec<usize> = tokens.iter().map(|tokens| tokens.len()).collect();
        let pad = self.model.tokenizer.pad();
        let mut ids = Vec::with_capacity(tokens.len() * width);
        for tokens in tokens {
            ids.extend(tokens.iter().map(|&id| id as i64));
            ids.resize(ids.len() + width - tokens.len(), pad as i64);
        }
        let device = &self.model.device;
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [rows.len(), width]), device);
        let decoder = &self.model.decoder;
        let last = decoder.last_hidden_cached(ids, rows, &counts, &mut self.cache)?;
        let logits = decoder.logits(last).cast(DType::F32).try_into_vec_as::<f32>();
        logits.map_err(|error| Error::Input(format!("reading logits from the device: {error}")))
    }
}
