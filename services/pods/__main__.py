"""python -m services.pods"""

from services.pods.service import SERVICE
from shared.service.runner import main

if __name__ == "__main__":
    main(SERVICE)
