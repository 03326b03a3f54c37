"""What AEM does to stored groups, without training: replays of a store and the diagnosis of its factor."""
