"""python -m services.jumpstarter"""

from services.jumpstarter.service import SERVICE
from shared.service.runner import main

if __name__ == "__main__":
    main(SERVICE)
