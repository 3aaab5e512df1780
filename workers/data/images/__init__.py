"""Images: the files of CIFAR-10 and MNIST, and the digits that come with scikit-learn."""
