//! Each rule against its formula, by hand and in f64, on a matrix and a vector.

use burn::module::{Module, Param};

use super::*;

#[derive(Module, Debug)]
struct Two {
    matrix: Param<Tensor<2>>,
    vector: Param<Tensor<1>>,
}

const MATRIX: [f32; 6] = [0.5, -0.3, 0.2, 0.9, -0.7, 0.1];
const VECTOR: [f32; 2] = [0.4, -0.6];

fn model() -> Two {
    let device = burn::tensor::Device::flex();
    let matrix = TensorData::new(MATRIX.to_vec(), [2, 3]);
    let vector = TensorData::new(VECTOR.to_vec(), [2]);
    Two {
        matrix: Param::from_tensor(Tensor::from_data(matrix, &device)),
        vector: Param::from_tensor(Tensor::from_data(vector, &device)),
    }
    .train()
}

/// The gradients of step `t`.
fn gradients(t: usize) -> (Vec<f32>, Vec<f32>) {
    let value = |i: usize| ((i * 7 + t * 3) % 11) as f32 / 5.0 - 1.0;
    ((0..6).map(value).collect(), (6..8).map(value).collect())
}

fn step(optimizer: &mut Optimizer, model: Two, t: usize, rate: f64) -> Two {
    let device = burn::tensor::Device::flex();
    let (matrix, vector) = gradients(t);
    let of = |values: Vec<f32>| Tensor::<1>::from_data(values.as_slice(), &device);
    let grads = [("matrix".to_owned(), of(matrix)), ("vector".to_owned(), of(vector))];
    optimizer.step(model, Gradients(BTreeMap::from(grads)), 1.0, rate)
}

fn values(model: &Two) -> (Vec<f32>, Vec<f32>) {
    let matrix = model.matrix.val().into_data().try_to_vec::<f32>().unwrap();
    (matrix, model.vector.val().into_data().try_to_vec::<f32>().unwrap())
}

fn args(optim: OptimizerName) -> TrainArgs {
    TrainArgs { optim, weight_decay: 0.1, ..TrainArgs::default() }
}

const ALL: [OptimizerName; 5] = [
    OptimizerName::Adamw,
    OptimizerName::Rmsprop,
    OptimizerName::Adafactor,
    OptimizerName::Lion,
    OptimizerName::Muon,
];

#[test]
fn a_state_that_was_saved_goes_on_as_if_it_had_not() {
    for optim in ALL {
        let (mut whole, mut model) = (Optimizer::new(&args(optim)), model());
        for t in 0..3 {
            model = step(&mut whole, model, t, 0.01);
        }
        let saved = whole.values();
        let mut resumed = Optimizer::new(&args(optim));
        resumed.load(&model, saved.clone()).unwrap();
        assert_eq!(resumed.values(), saved, "{optim:?}");
        let (a, b) =
            (step(&mut whole, model.clone(), 3, 0.01), step(&mut resumed, model.clone(), 3, 0.01));
        assert_eq!(values(&a), values(&b), "{optim:?}");

        let mut other = saved.clone();
        other.insert("other.square_avg".into(), TensorData::new(vec![0f32], [1, 1]));
        let error = Optimizer::new(&args(optim)).load(&model, other).unwrap_err();
        assert!(error.contains("does not train"), "{error}");
        let mut wrong = saved.clone();
        let name = saved.keys().find(|name| !name.ends_with(".time")).unwrap().clone();
        wrong.insert(name, TensorData::new(vec![0f32; 35], [5, 7]));
        let error = Optimizer::new(&args(optim)).load(&model, wrong).unwrap_err();
        assert!(error.contains("another shape"), "{error}");
    }
}

#[test]
fn another_optimisers_state_is_refused() {
    let (mut adamw, model) = (Optimizer::new(&args(OptimizerName::Adamw)), model());
    let model = step(&mut adamw, model, 0, 0.01);
    let mut lion = Optimizer::new(&args(OptimizerName::Lion));
    let error = lion.load(&model, adamw.values()).unwrap_err();
    assert!(error.contains("another optimiser's"), "{error}");
}

/// One parameter under a rule by hand: `rule(weight, gradients so far)` gives the next weight.
fn check(optim: OptimizerName, rule: impl Fn(f64, &[f64], f64) -> f64) {
    let (mut optimizer, mut model) = (Optimizer::new(&args(optim)), model());
    let mut expected: Vec<f64> = MATRIX.iter().chain(&VECTOR).map(|&x| x as f64).collect();
    let mut seen = vec![Vec::new(); 8];
    for t in 0..3 {
        model = step(&mut optimizer, model, t, 0.02);
        let (matrix, vector) = gradients(t);
        for (i, g) in matrix.into_iter().chain(vector).enumerate() {
            seen[i].push(g as f64);
            expected[i] = rule(expected[i], &seen[i], if i < 6 { 0.1 } else { 0.0 });
        }
    }
    let (matrix, vector) = values(&model);
    for (i, (got, want)) in matrix.iter().chain(&vector).zip(&expected).enumerate() {
        assert!((*got as f64 - want).abs() < 1e-5, "{optim:?} {i}: {got} is not {want}");
    }
}

#[test]
fn rmsprop_is_that_of_torch() {
    check(OptimizerName::Rmsprop, |w, gradients, decay| {
        let mean = gradients.iter().fold(0.0, |v, g| 0.99 * v + 0.01 * g * g);
        let g = gradients.last().unwrap();
        w * (1.0 - 0.02 * decay) - 0.02 * g / (mean.sqrt() + 1e-8)
    });
}

#[test]
fn lion_is_that_of_the_paper() {
    check(OptimizerName::Lion, |w, gradients, decay| {
        let (last, before) = gradients.split_last().unwrap();
        let m = before.iter().fold(0.0, |m, g| 0.999 * m + 0.001 * g);
        let direction = 0.9 * m + 0.1 * last;
        let sign = if direction == 0.0 { 0.0 } else { direction.signum() };
        w * (1.0 - 0.02 * decay) - 0.02 * sign
    });
}

#[test]
fn muon_moves_matrices_by_nearly_orthogonal_updates_and_vectors_as_adamw() {
    let run = |optim| {
        let (mut optimizer, model) = (Optimizer::new(&args(optim)), model());
        values(&step(&mut optimizer, model, 0, 0.02))
    };
    let ((muon, muon_vector), (_, adamw_vector)) =
        (run(OptimizerName::Muon), run(OptimizerName::Adamw));
    assert_eq!(muon_vector, adamw_vector);
    // Without decay the update is −η O with O Oᵀ near the identity (singular values 0.7 to 1.2).
    let update: Vec<f64> = muon
        .iter()
        .zip(MATRIX)
        .map(|(new, old)| (old as f64 * (1.0 - 0.02 * 0.1) - *new as f64) / 0.02)
        .collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let (a, b) = update.split_at(3);
    for norm in [dot(a, a), dot(b, b)] {
        assert!((0.4..1.5).contains(&norm), "{update:?}");
    }
    assert!(dot(a, b).abs() < 0.3, "{update:?}");
}

#[test]
fn adafactor_is_that_of_the_paper() {
    // One step: second moments are the means of rows and columns of g² (β₂ = 0), and the update is
    // clipped to a root mean square of 1.
    let mut optimizer = Optimizer::new(&args(OptimizerName::Adafactor));
    let (matrix, _) = values(&step(&mut optimizer, model(), 1, 0.02));
    let g: Vec<f64> = gradients(1).0.iter().map(|&x| x as f64).collect();
    let row = |i: usize| (0..3).map(|j| g[3 * i + j].powi(2)).sum::<f64>() / 3.0;
    let column = |j: usize| (0..2).map(|i| g[3 * i + j].powi(2)).sum::<f64>() / 2.0;
    let mean = (row(0) + row(1)) / 2.0;
    let update: Vec<f64> =
        (0..6).map(|k| g[k] / (row(k / 3) * column(k % 3) / mean).sqrt()).collect();
    let rms = (update.iter().map(|u| u * u).sum::<f64>() / 6.0).sqrt();
    for k in 0..6 {
        let want = MATRIX[k] as f64 * (1.0 - 0.02 * 0.1) - 0.02 * update[k] / rms.max(1.0);
        assert!((matrix[k] as f64 - want).abs() < 1e-5, "{} is not {want}", matrix[k]);
    }
}
