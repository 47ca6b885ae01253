//! Heads fitted on frozen features: logistic regression, shrunk discriminant analysis, whitening.
