//! Sorts texts with a trained classifier: `moderate DIR TEXT...`.

use std::error::Error;
use std::path::Path;

use burn::tensor::Device;
use safety_classifier::SafetyClassifier;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [dir, texts @ ..] = arguments.as_slice() else {
        return Err("usage: moderate CLASSIFIER_DIR TEXT...".into());
    };
    let classifier = SafetyClassifier::load(Path::new(dir), &Device::flex())?;
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for (text, prediction) in texts.iter().zip(classifier.predict(&texts)?) {
        println!("{:.3}  {:<18} {text}", prediction.harm, prediction.label);
    }
    Ok(())
}
