//! Temperatures, competence, certified thresholds, novelty banks and picture bounds, fitted on samples that no model was trained on.
