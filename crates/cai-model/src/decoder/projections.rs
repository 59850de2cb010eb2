//! Every projection of a decoder, by its name in a checkpoint: what adapters stand on.

use super::{Decoder, DecoderLayer, Linear, Weight};

impl Decoder {
    /// Every projection that an adapter can stand on, with its name: all linear layers but the head,
    /// as PEFT's `all-linear` has it.
    pub(crate) fn projections(&mut self) -> Vec<(String, &mut Linear)> {
        let model = &mut self.model;
        let inputs = model.per_layer.iter_mut().map(|inputs| {
            let name = "model.per_layer_model_projection".to_string();
            (name, &mut inputs.per_layer_model_projection)
        });
        let layers = model.layers.iter_mut().enumerate().flat_map(|(i, layer)| {
            let named = move |(part, linear)| (format!("model.layers.{i}.{part}"), linear);
            layer.projections().map(named)
        });
        inputs.chain(layers).collect()
    }
}

impl DecoderLayer {
    fn projections(&mut self) -> impl Iterator<Item = (&'static str, &mut Linear)> {
        let Self { self_attn, mlp, mixture, per_layer, .. } = self;
        let some = [
            ("self_attn.q_proj", Some(&mut self_attn.q_proj)),
            ("self_attn.k_proj", self_attn.k_proj.as_mut()),
            ("self_attn.v_proj", self_attn.v_proj.as_mut()),
            ("self_attn.o_proj", Some(&mut self_attn.o_proj)),
            ("mlp.gate_proj", Some(&mut mlp.gate_proj)),
            ("mlp.up_proj", Some(&mut mlp.up_proj)),
            ("mlp.down_proj", Some(&mut mlp.down_proj)),
            ("router.proj", mixture.as_mut().map(|mixture| &mut mixture.router.proj)),
        ];
        let inputs = per_layer.iter_mut().flat_map(|block| {
            [
                ("per_layer_input_gate", &mut block.per_layer_input_gate),
                ("per_layer_projection", &mut block.per_layer_projection),
            ]
        });
        some.into_iter().filter_map(|(name, linear)| Some((name, linear?))).chain(inputs)
    }

    /// The matrices of the projections.
    pub(super) fn weights(&self) -> Vec<&Weight> {
        let Self { self_attn, mlp, mixture, per_layer, .. } = self;
        let some = [
            Some(&self_attn.q_proj),
            self_attn.k_proj.as_ref(),
            self_attn.v_proj.as_ref(),
            Some(&self_attn.o_proj),
            Some(&mlp.gate_proj),
            Some(&mlp.up_proj),
            Some(&mlp.down_proj),
            mixture.as_ref().map(|mixture| &mixture.router.proj),
            per_layer.as_ref().map(|block| &block.per_layer_input_gate),
            per_layer.as_ref().map(|block| &block.per_layer_projection),
        ];
        some.into_iter().flatten().map(|linear| &linear.weight).collect()
    }
}
