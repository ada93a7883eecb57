"""From a parameters file to a trained model: the session, the data, the model, the run. Imports torch late."""
